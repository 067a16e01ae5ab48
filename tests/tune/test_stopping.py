"""Each stopping rule's own arithmetic. What all of them promise is in test_stopping_conformance.py."""

from __future__ import annotations

from collections import Counter

import pytest

from raysl.tune.judging.rules import Hyperband, Patience, PercentileRule, SuccessiveHalving, quantile
from raysl.tune.judging.stopping import Curves, Decision, History, NoStopping, Rule, build_rule
from raysl.tune.spaces.stopping_config import StoppingConfig


def ask(rule: Rule, curves: Curves, number: int, epoch: int) -> Decision:
    return rule.decide(History(curves), number, epoch)


def test_halving_keeps_one_in_eta_of_those_seen_at_the_rung() -> None:
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    assert rule.rungs() == [1, 3, 9]
    curves = {number: {1: float(number), 2: 0.0} for number in range(9)} | {20: {2: 9.0}}
    stopped = [number for number in range(9) if ask(rule, curves, number, 1).stop]
    assert stopped == [0, 1, 2, 3, 4, 5]
    assert ask(rule, curves, 0, 1).peers == (1, 2, 3, 4, 5, 6, 7, 8)
    assert ask(rule, curves, 0, 1).reason == "rank 9 of 9 at epoch 1, where the best 3 go on"
    assert not ask(rule, curves, 0, 2).stop


def test_halving_does_not_decide_between_fewer_than_eta() -> None:
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    assert not ask(rule, {0: {1: 1.0}, 1: {1: 0.0}}, 1, 1).stop
    assert ask(rule, {0: {1: 1.0}, 1: {1: 0.0}, 2: {1: 0.5}}, 1, 1).stop


def test_halving_keeps_ties() -> None:
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    assert not any(ask(rule, {n: {1: 0.5} for n in range(6)}, number, 1).stop for number in range(6))


def test_an_audited_loser_counts_at_the_rung_it_lost_at_and_not_after() -> None:
    """Of six at epoch 3 the best two go on; without the two that are audited, the best one of four."""
    rule = SuccessiveHalving(epochs=27, min_epochs=1, eta=3, maximize=True)
    curves = {number: {1: float(number), 3: float(number)} for number in range(6)}
    assert not rule.decide(History(curves), 4, 3).stop
    assert not rule.decide(History(curves, audited={0: 3, 1: 3}), 4, 3).stop
    assert rule.decide(History(curves, audited={0: 1, 1: 1}), 4, 3).stop


def test_brackets_spend_alike_and_begin_a_factor_apart() -> None:
    """Rungs 1, 3, 9 of 27 epochs: 27, 12, 6 and 4 trials in a cycle of 49."""
    rule = Hyperband(epochs=27, min_epochs=1, eta=3, maximize=True)
    brackets = [rule.bracket(number) for number in range(98)]
    assert Counter(brackets[:49]) == {0: 27, 1: 12, 2: 6, 3: 4}
    assert brackets[:49] == brackets[49:]
    # Every bracket has its share of a sweep that ends before the cycle does.
    for number in range(1, 50):
        counts = Counter(brackets[:number])
        for bracket, size in enumerate((27, 12, 6, 4)):
            assert abs(counts[bracket] - size * number / 49) < 1.01
    assert rule.rungs() == [1, 3, 9]


def test_brackets_compare_with_their_own_from_their_own_first_rung() -> None:
    rule = Hyperband(epochs=27, min_epochs=1, eta=3, maximize=True)
    curves = {number: {1: -float(number), 3: -float(number), 9: -float(number)} for number in range(98)}
    for bracket, first in ((0, 1), (1, 3), (2, 9), (3, None)):
        mine = [number for number in curves if rule.bracket(number) == bracket]
        stops = {epoch for epoch in (1, 3, 9) if ask(rule, curves, mine[-1], epoch).stop}
        assert stops == {epoch for epoch in (1, 3, 9) if first is not None and epoch >= first}
        if first is not None:
            found = ask(rule, curves, mine[-1], first)
            assert found.peers == tuple(mine[:-1])
            assert found.reason.startswith(f"bracket {bracket}: rank {len(mine)} of {len(mine)} at epoch")
            stopped = [number for number in mine if ask(rule, curves, number, first).stop]
            assert stopped == mine[len(mine) // 3 :]


def test_median_compares_the_best_so_far() -> None:
    rule = PercentileRule(epochs=9, min_epochs=1, min_trials=3, maximize=True, percentile=50.0)
    others = {number: {2: value} for number, value in enumerate((0.2, 0.5, 0.9))}
    assert not ask(rule, others | {3: {1: 0.6, 2: 0.1}}, 3, 2).stop
    lost = ask(rule, others | {3: {1: 0.4, 2: 0.1, 3: 0.9}}, 3, 2)
    assert lost.stop
    assert lost.reason == "best so far 0.4, median of 3 others at epoch 2 0.5"
    assert not ask(rule, {0: {2: 1.0}, 1: {2: 1.0}, 3: {2: 0.0}}, 3, 2).stop


@pytest.mark.parametrize(("percentile", "bar"), [(0, 8.0), (25, 6.0), (50, 4.0), (100, 0.0), (37.5, 5.0)])
def test_a_percentile_is_the_share_that_a_trial_must_be_among(percentile: float, bar: float) -> None:
    rule = PercentileRule(epochs=9, min_epochs=1, min_trials=1, maximize=True, percentile=percentile)
    others = {number: {1: float(number)} for number in range(9)}
    assert not ask(rule, others | {9: {1: bar}}, 9, 1).stop
    assert ask(rule, others | {9: {1: bar - 0.01}}, 9, 1).stop
    less = PercentileRule(epochs=9, min_epochs=1, min_trials=1, maximize=False, percentile=percentile)
    assert ask(less, others | {9: {1: 8.01 - bar}}, 9, 1).stop
    assert not ask(less, others | {9: {1: 8.0 - bar}}, 9, 1).stop


def test_a_quantile_of_equal_or_huge_values_is_one_of_them() -> None:
    assert all(quantile([0.1] * 7, share / 100) == 0.1 for share in range(101))
    assert quantile([1.7e308, 1.6e308], 0.5) == pytest.approx(1.65e308)
    assert quantile([1.7e308, -1.7e308], 0.5) == 0.0


def test_patience_counts_measured_epochs_without_an_improvement() -> None:
    rule = Patience(epochs=20, min_epochs=1, patience=3, min_delta=0.1, maximize=True)
    curve = {1: 0.5, 2: 0.55, 4: 0.6, 6: 0.45}
    assert [epoch for epoch in curve if ask(rule, {0: curve}, 0, epoch).stop] == [6]
    assert ask(rule, {0: curve}, 0, 6).reason == (
        "not better by more than 0.1 than at epoch 1 (0.5) at 3 measured epochs, up to epoch 6"
    )
    # Small steps add up, because each is held against the last improvement.
    assert not ask(rule, {0: curve | {4: 0.61}}, 0, 6).stop
    assert not ask(Patience(20, 7, 3, 0.1, True), {0: curve}, 0, 6).stop
    assert not ask(Patience(20, 1, 3, 0.0, True), {0: curve}, 0, 6).stop
    assert ask(Patience(20, 1, 3, 0.0, False), {0: curve}, 0, 4).stop is False
    assert ask(Patience(20, 1, 2, 0.0, False), {0: curve}, 0, 4).stop


def test_each_name_builds_its_rule_with_its_settings() -> None:
    def bare(**values: object) -> object:
        built = build_rule(StoppingConfig.model_validate(values), 20, False)
        return getattr(built, "rule", built)

    assert bare(rule="none") == NoStopping()
    assert bare(reduction_factor=4) == SuccessiveHalving(20, 2, 4, False)
    assert bare(rule="hyperband", min_epochs=1) == Hyperband(20, 1, 3, False)
    assert bare(rule="median", min_trials=6) == PercentileRule(20, 2, 6, False, 50.0)
    assert bare(rule="percentile", percentile=10) == PercentileRule(20, 2, 4, False, 10.0)
    assert bare(rule="patience", patience=2, min_delta=0.5) == Patience(20, 2, 2, 0.5, False)
