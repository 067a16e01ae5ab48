"""How differences between workers are measured."""

from __future__ import annotations

import math

import pytest
import torch

from raysl.verify.sample import Taken
from raysl.verify.workers import compare_taken, compare_workers


def taken(loss: float = 2.0, gradient: float = 1.0, bias: float = 0.0, weight: float = 0.5) -> Taken:
    gradients = {"weight": torch.tensor([gradient, 0.1]), "bias": torch.tensor([bias])}
    state = {
        "weight": torch.tensor([weight]),
        "bias": torch.tensor([0.01 + bias]),
        "count": torch.tensor(5.0),
    }
    return Taken([2.0, loss], gradients, state)


def test_equal_runs_are_equal() -> None:
    found = compare_taken(taken(), [taken(), taken()], 2, "float64")
    assert found.passed
    assert found.worst == 0.0


@pytest.mark.parametrize("name", ["loss", "gradient", "weight"])
def test_any_worker_that_differs_is_seen(name: str) -> None:
    other = taken(**{name: 0.501})
    found = compare_taken(taken(), [taken(), other], 2, "float64")
    assert not found.passed
    assert found.worst > 1e-3
    assert name == "loss" or found.where == "weight"


def test_rounding_of_a_gradient_that_vanishes_is_no_difference() -> None:
    found = compare_taken(taken(), [taken(bias=1e-16)], 2, "float64")
    assert found.passed
    assert not compare_taken(taken(), [taken(bias=1e-8)], 2, "float64").passed


def test_a_loss_of_nothing_is_compared_too() -> None:
    assert compare_taken(taken(loss=0.0), [taken(loss=0.0)], 2, "float64").passed
    assert not compare_taken(taken(loss=0.0), [taken(loss=0.1)], 2, "float64").passed


def test_nan_and_missing_tensors_fail() -> None:
    assert compare_taken(taken(), [taken(loss=math.nan)], 2, "float64").loss == math.inf
    assert compare_taken(taken(), [taken(gradient=math.nan)], 2, "float64").gradients == math.inf
    less = taken()
    del less.gradients["bias"]
    found = compare_taken(taken(), [less], 2, "float64")
    assert found.gradients == math.inf
    assert found.where == "bias"


def test_one_worker_needs_no_processes() -> None:
    assert compare_workers({"none": None}, [1]) == {"none": []}  # type: ignore[dict-item]
