"""Stopping rules: what every rule promises, then each rule's own arithmetic."""

from __future__ import annotations

import copy
import math
import random

import pytest

from raysl.tune.space import StoppingConfig
from raysl.tune.stopping import Curves, MedianRule, SuccessiveHalving, build_rule

RULES = ["successive_halving", "median", "none"]
EPOCHS = 9


def random_curves(seed: int, trials: int = 12) -> dict[int, dict[int, float]]:
    """Curves of unequal length, with epochs that were not measured and values that are NaN."""
    draw = random.Random(seed)
    curves: dict[int, dict[int, float]] = {}
    for number in range(trials):
        curve = {epoch: draw.random() for epoch in range(1, draw.randint(2, EPOCHS) + 1)}
        for epoch in list(curve):
            if draw.random() < 0.1:
                del curve[epoch]
            elif draw.random() < 0.1:
                curve[epoch] = math.nan
        curves[number] = curve or {1: 0.5}
    return curves


def flipped(curves: Curves) -> dict[int, dict[int, float]]:
    return {number: {epoch: -value for epoch, value in curve.items()} for number, curve in curves.items()}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(5))
def test_asked_twice_it_says_the_same_and_changes_nothing(rule: str, seed: int) -> None:
    config = StoppingConfig.model_validate({"rule": rule, "min_epochs": 1})
    curves = random_curves(seed)
    before = copy.deepcopy(curves)
    for number, curve in curves.items():
        for epoch in range(1, EPOCHS + 1):
            first = build_rule(config, EPOCHS, True).decide(curves, number, epoch)
            # A new rule over a copy in another order is what a continued sweep asks.
            shuffled = {key: dict(reversed(list(curves[key].items()))) for key in reversed(list(curves))}
            again = build_rule(config, EPOCHS, True).decide(shuffled, number, epoch)
            assert first == again
            assert not first.stop or epoch in curve
            assert not first.stop or first.reason
    assert repr(curves) == repr(before)


@pytest.mark.parametrize("rule", RULES)
def test_minimizing_is_maximizing_the_negative(rule: str) -> None:
    config = StoppingConfig.model_validate({"rule": rule, "min_epochs": 1})
    curves = random_curves(7)
    for number, curve in curves.items():
        for epoch in curve:
            up = build_rule(config, EPOCHS, True).decide(curves, number, epoch)
            down = build_rule(config, EPOCHS, False).decide(flipped(curves), number, epoch)
            assert up.stop == down.stop


@pytest.mark.parametrize("rule", RULES)
def test_nobody_is_stopped_at_the_last_epoch_or_before_the_first_rung(rule: str) -> None:
    config = StoppingConfig.model_validate({"rule": rule, "min_epochs": 3})
    curves = {number: {epoch: float(number) for epoch in range(1, EPOCHS + 1)} for number in range(10)}
    for number in curves:
        for epoch in (1, 2, EPOCHS):
            assert not build_rule(config, EPOCHS, True).decide(curves, number, epoch).stop


@pytest.mark.parametrize("rule", ["successive_halving", "median"])
def test_the_worst_of_many_is_stopped_and_the_best_is_not(rule: str) -> None:
    config = StoppingConfig.model_validate({"rule": rule, "min_epochs": 1})
    curves = {number: {1: float(number)} for number in range(10)}
    built = build_rule(config, EPOCHS, True)
    assert built.decide(curves, 0, 1).stop
    assert not built.decide(curves, 9, 1).stop


@pytest.mark.parametrize("rule", ["successive_halving", "median"])
def test_nan_loses_against_every_number(rule: str) -> None:
    config = StoppingConfig.model_validate({"rule": rule, "min_epochs": 1})
    curves = {number: {1: -1e9 - number} for number in range(6)} | {6: {1: math.nan}}
    built = build_rule(config, EPOCHS, True)
    assert built.decide(curves, 6, 1).stop
    assert not built.decide(curves, 0, 1).stop


def test_halving_keeps_one_in_eta_of_those_seen_at_the_rung() -> None:
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    assert rule.rungs() == [1, 3, 9]
    curves = {number: {1: float(number), 2: 0.0} for number in range(9)} | {20: {2: 9.0}}
    stopped = [number for number in range(9) if rule.decide(curves, number, 1).stop]
    assert stopped == [0, 1, 2, 3, 4, 5]
    assert rule.decide(curves, 0, 1).peers == (1, 2, 3, 4, 5, 6, 7, 8)
    assert not rule.decide(curves, 0, 2).stop


def test_halving_does_not_decide_between_fewer_than_eta() -> None:
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    assert not rule.decide({0: {1: 1.0}, 1: {1: 0.0}}, 1, 1).stop
    assert rule.decide({0: {1: 1.0}, 1: {1: 0.0}, 2: {1: 0.5}}, 1, 1).stop


def test_halving_keeps_ties() -> None:
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    assert not any(rule.decide({n: {1: 0.5} for n in range(6)}, number, 1).stop for number in range(6))


def test_median_compares_the_best_so_far() -> None:
    rule = MedianRule(epochs=9, min_epochs=1, min_trials=3, maximize=True)
    others = {number: {2: value} for number, value in enumerate((0.2, 0.5, 0.9))}
    assert not rule.decide(others | {3: {1: 0.6, 2: 0.1}}, 3, 2).stop
    assert rule.decide(others | {3: {1: 0.4, 2: 0.1}}, 3, 2).stop
    assert not rule.decide({0: {2: 1.0}, 1: {2: 1.0}, 3: {2: 0.0}}, 3, 2).stop
