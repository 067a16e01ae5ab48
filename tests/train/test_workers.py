"""Two workers train as one does: the reason why a search on one may choose for many.

`pytest -s` shows the largest differences that were measured.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from raysl.train.rundir import RunDirectory
from tests.train.jobs import CONTINUED, STEPS, Done, float64_config, take_steps
from tests.train.made import METHODS, assert_same_bits, config, results, train, weights

ROUNDING = 1e-14
"""What is zero but for rounding, such as the mean of a normalised batch, has no relative difference."""


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of two sets of tensors, each tensor relative to its largest entry."""
    assert one.keys() == other.keys()
    return max(_difference(one[name].double(), other[name].double()) for name in one)


def _difference(one: Tensor, other: Tensor) -> float:
    apart = float((one - other).abs().max())
    return 0.0 if apart < ROUNDING else apart / float(one.abs().max())


@pytest.mark.parametrize("method", METHODS)
def test_steps_in_float64_do_not_depend_on_the_number_of_workers(method: str, done: Done) -> None:
    alone = take_steps(float64_config(method), STEPS)
    assert any("backbone" in name and "running_var" in name for name in alone.tensors)
    first, *others = done.trained(method)
    loss = max(abs(a - b) / abs(a) for a, b in zip(alone.losses, first.losses, strict=True))
    tensors = largest_difference(alone.tensors, first.tensors)
    print(f"\n{method}, float64, {STEPS} steps: loss {loss:.1e}, weights and buffers {tensors:.1e}")
    assert loss < 1e-9
    assert tensors < 1e-9
    for worker in others:
        assert_same_bits(worker.tensors, first.tensors)
        assert worker.losses == first.losses


def test_the_comparison_sees_another_batch() -> None:
    one, other = (
        take_steps(float64_config("simclr"), 2),
        take_steps(config("train.seed=1", method="simclr"), 2),
    )
    assert largest_difference(one.tensors, other.tensors) > 1e-3


def test_a_stop_asked_of_any_worker_stops_all_and_the_run_goes_on_to_the_bit(done: Done) -> None:
    assert done.results("straight") == [["completed", "completed"]]
    assert done.results("stopped") == [["Interrupted", "Interrupted"], ["completed", "completed"]]
    assert results(done.run("stopped")) == results(done.run("straight"))
    assert_same_bits(weights(done.run("stopped")), weights(done.run("straight")))


def test_a_run_begun_by_one_worker_may_be_continued_by_two(done: Done, tmp_path: Path) -> None:
    train(CONTINUED, tmp_path)
    assert [epoch for epoch, _ in results(done.run("continued"))] == [1, 2, 3, 4]
    assert largest_difference(weights(tmp_path), weights(done.run("continued"))) < 1e-9


def test_divergence_ends_every_worker(done: Done) -> None:
    assert done.results("diverged") == [["TrainingStopped", "TrainingStopped"]]
    assert RunDirectory(done.run("diverged")).status()["state"] == "stopped"


def test_two_workers_train_in_bf16(done: Done) -> None:
    assert done.results("bf16") == [["completed", "completed"]]
    ((_, metrics),) = results(done.run("bf16"))
    assert 3.0 < metrics["train/loss"] < 5.0
