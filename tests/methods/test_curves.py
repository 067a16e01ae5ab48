"""Each method trains as it did when its curve was stored: nothing about it changed unnoticed."""

from __future__ import annotations

import json

import pytest

from raysl import methods
from tests.methods.curves import STEPS, STORED, curve

RELATIVE = 1e-6
CURVES: dict[str, list[float]] = json.loads(STORED.read_text(encoding="utf-8"))


def test_every_method_has_a_curve() -> None:
    assert sorted(CURVES) == methods.method_names(), "python -m tests.methods.curves stores them"


@pytest.mark.parametrize("method", methods.method_names())
def test_the_first_steps_reproduce_the_stored_curve(method: str) -> None:
    losses = curve(method)
    assert len(losses) == STEPS
    assert losses == pytest.approx(CURVES[method], rel=RELATIVE)


@pytest.mark.parametrize("method", methods.method_names())
def test_a_curve_moves_by_more_than_it_is_compared_with(method: str) -> None:
    losses = CURVES[method]
    assert max(losses) - min(losses) > 1e3 * RELATIVE * abs(losses[0])
