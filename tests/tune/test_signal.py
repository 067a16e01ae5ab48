"""The rank correlation of rungs with the end, against other ways to compute it."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import spearmanr

from raysl.tune.judging.history import History
from raysl.tune.judging.signal import Correlation, correlation_at, interval, signals, spearman

END = 9


def pairs(seed: int, count: int, rho: float) -> list[tuple[float, float]]:
    draw = random.Random(seed)
    left = [draw.gauss(0, 1) for _ in range(count)]
    return [(x, rho * x + math.sqrt(1 - rho * rho) * draw.gauss(0, 1)) for x in left]


@pytest.mark.parametrize("seed", range(5))
def test_without_weights_it_is_spearmans(seed: int) -> None:
    draw = random.Random(seed)
    left, right = ([float(draw.randint(0, 6)) for _ in range(15)] for _ in range(2))
    found = spearman(left, right, [1.0] * 15)
    assert found == pytest.approx(float(spearmanr(left, right).statistic), abs=1e-12)
    assert spearman(left, [-value for value in right], [1.0] * 15) == pytest.approx(-(found or 0), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_that_many_copies(seed: int) -> None:
    draw = random.Random(seed)
    left, right = ([float(draw.randint(0, 6)) for _ in range(10)] for _ in range(2))
    weights = [draw.randint(1, 4) for _ in range(10)]
    copies = [
        [value for value, weight in zip(side, weights, strict=True) for _ in range(weight)]
        for side in (left, right)
    ]
    assert spearman(left, right, [float(w) for w in weights]) == pytest.approx(
        float(spearmanr(*copies).statistic), abs=1e-12
    )


def test_too_little_to_tell_is_said_so() -> None:
    assert spearman([1.0, 2.0], [1.0, 2.0], [1.0, 1.0]) is None
    assert spearman([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5) is None
    assert interval(None, [1.0] * 5) == (None, None)
    assert interval(0.5, [1.0] * 3) == (None, None)
    assert interval(0.5, [100.0, 1.0, 1.0, 1.0]) == (None, None)
    assert Correlation(None, None, None, 2, 0, 0).describe() == "not known from 2 trials"


def test_the_interval_is_bonett_and_wrights() -> None:
    """The example of R's statpsych::ci.spear."""
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    found = spearman([float(v) for v in x], [float(v) for v in y], [1.0] * 15)
    assert found == pytest.approx(0.8699639, abs=1e-7)
    assert interval(found, [1.0] * 15) == pytest.approx((0.5840951, 0.9638297), abs=1e-6)
    # Fewer effective trials make it wider.
    low, high = interval(found, [4.0] * 5 + [1.0] * 10)
    assert low is not None
    assert high is not None
    assert low < 0.58
    assert high > 0.965


def test_a_few_trials_in_order_prove_little() -> None:
    low, high = interval(1.0, [1.0] * 4)
    assert low is not None
    assert high is not None
    assert low < 0.0
    assert high < 1.0
    assert (-high, -low) == pytest.approx(interval(-1.0, [1.0] * 4))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held, rho = 0, 0.6
    truth = 6 / math.pi * math.asin(rho / 2)
    for seed in range(300):
        left, right = zip(*pairs(seed, 25, rho), strict=True)
        low, high = interval(spearman(left, right, [1.0] * 25), [1.0] * 25)
        held += low is not None and high is not None and low <= truth <= high
    assert 0.92 <= held / 300 <= 0.98


def stopped_at_a_rung(seed: int, rho: float, every: int) -> tuple[History, float]:
    """Return a sweep in which a third of 90 trials goes on, and one in so many others; and the truth."""
    values = pairs(seed, 90, rho)
    order = sorted(range(90), key=lambda number: values[number][0])
    lost, kept = order[:60], order[60:]
    audited = dict.fromkeys(random.Random(seed).sample(lost, 60 // every), 1)
    ended = frozenset([*kept, *audited])
    curves = {number: {1: x, END: y} if number in ended else {1: x} for number, (x, y) in enumerate(values)}
    truth = float(spearmanr(*zip(*values, strict=True)).statistic)
    return History(curves, ended, audited, frozenset(lost) - audited.keys()), truth


def test_audited_losers_stand_for_all_losers() -> None:
    """Without weights, the winners would count three times too much, and the correlation is too low."""
    errors, bare = [], []
    for seed in range(40):
        history, truth = stopped_at_a_rung(seed, 0.7, every=6)
        found = correlation_at(history, 1, END)
        assert (found.trials, found.audited, found.losers) == (40, 10, 60)
        both = sorted(history.complete)
        left, right = ([history.curves[number][at] for number in both] for at in (1, END))
        errors.append((found.value or 0.0) - truth)
        bare.append((spearman(left, right, [1.0] * 40) or 0.0) - truth)
    assert abs(float(np.mean(errors))) < 0.03
    assert float(np.mean(bare)) < -0.05 or float(np.mean(bare)) > 0.05
    assert abs(float(np.mean(errors))) < abs(float(np.mean(bare))) / 2


def test_only_trials_with_both_values_count() -> None:
    curves = {number: {1: float(number), END: float(number)} for number in range(6)}
    curves |= {6: {1: 9.0}, 7: {END: -9.0}, 8: {1: math.nan, END: 3.0}, 9: {1: 0.0, END: -9.0}}
    found = correlation_at(History(curves, frozenset({0, 1, 2, 3, 4, 5, 7, 8})), 1, END)
    assert (found.value, found.trials, found.losers) == (1.0, 6, 0)


def test_each_rung_is_told_with_its_thirds_by_learning_rate() -> None:
    """At low rates the rung says all, at middle ones nothing, at high ones the opposite."""
    rates = {number: 10.0 ** (number - 9) for number in range(18)}
    middle = [0.0, 5.0, 4.0, 1.0, 2.0, 3.0]
    ends = [*map(float, range(6)), *middle, *map(float, range(6, 0, -1))]
    curves = {n: {2: float(n), 6: float(n), END: ends[n]} for n in rates}
    history = History(curves, frozenset(rates))
    found = signals(history, [2, 6, 7], END, rates)
    assert [signal.epoch for signal in found] == [2, 6, 7]
    assert found[0].correlation == found[1].correlation
    assert found[2].correlation.value is None
    low, mid, high = found[0].terciles
    assert (low.low, low.high, high.low, high.high) == (rates[0], rates[5], rates[12], rates[17])
    assert (low.correlation.value, high.correlation.value) == (1.0, -1.0)
    assert mid.correlation.value == pytest.approx(float(spearmanr(range(6), middle).statistic))
    assert low.correlation.trials == mid.correlation.trials == high.correlation.trials == 6
    kept = json.loads(json.dumps(asdict(found[0])))
    assert kept["terciles"][0]["correlation"]["value"] == 1.0
    lines = found[0].describe()
    assert lines[0].startswith("epoch 2: rank correlation with the end ")
    assert lines[0].endswith(" of 18 trials, 0 of them audited")
    assert lines[1].startswith("  learning rate 1e-09 to 0.0001: 1.00 (")


def test_without_a_searched_rate_there_are_no_thirds() -> None:
    history = History({n: {1: float(n), END: float(n)} for n in range(6)}, frozenset(range(6)))
    assert signals(history, [1], END)[0].terciles == ()
    assert signals(history, [1], END, dict.fromkeys(range(6), 0.1))[0].terciles == ()
