"""How much a rung says about the end: is stopping there sound?

The rank correlation (Spearman's) between the value at a rung and the value at the last epoch, over the trials
that have both: those that were never stopped, and the losers that were let run on (`audit.py`). A stopped
trial has no end, so the few audited losers stand for all losers: each has the weight losers / audited, both
counted among the trials measured at the rung; every other trial has the weight 1. Ranks and correlation are
weighted.

The interval is Fisher's with Bonett and Wright's standard error, sqrt((1 + r^2 / 2) / (n - 3)), n being
Kish's effective number of trials, (sum w)^2 / sum w^2. It needs no random numbers. Below n = 25 and for |r|
above 0.9 it is rough. A correlation of 1 is taken as half a step below it (the next that n trials can have is
1 - 12 / (n^3 - n)), because a handful of trials in order does not prove that all always will be.

Source: Bonett and Wright, Psychometrika 65, 2000, 23-28; Kish, Survey Sampling, 1965. Weights, and the
effective number in place of n, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from raysl.tune.judging.history import History

_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Correlation:
    """A rank correlation and how well it is known.

    Args:
        value: between -1 and 1; None below three trials, or where all of either side are equal.
        low: lower end of the 95 % interval; None where there are too few trials for one.
        high: upper end.
        trials: trials with both values.
        audited: those of them that are audited losers.
        losers: trials measured at the rung that lost, there or later; the audited stand for them.
    """

    value: float | None
    low: float | None
    high: float | None
    trials: int
    audited: int
    losers: int

    def describe(self) -> str:
        """Return it in a few words: `0.71 (0.32 to 0.89) of 14 trials, 4 of them audited`."""
        if self.value is None:
            return f"not known from {self.trials} trials"
        interval = "" if self.low is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f}{interval} of {self.trials} trials, {self.audited} of them audited"


@dataclass(frozen=True)
class Tercile:
    """A third of the trials by their learning rate.

    Args:
        low: smallest learning rate in it.
        high: largest.
        correlation: of these trials alone.
    """

    low: float
    high: float
    correlation: Correlation


@dataclass(frozen=True)
class Signal:
    """What a rung says about the end. `dataclasses.asdict` gives it as plain values.

    Args:
        epoch: the rung.
        correlation: over all trials.
        terciles: the same for the lowest, middle and highest third of the learning rates of the trials
            measured at the rung; empty where it is not searched.
    """

    epoch: int
    correlation: Correlation
    terciles: tuple[Tercile, ...] = ()

    def describe(self) -> list[str]:
        """Return it in lines for people."""
        lines = [f"epoch {self.epoch}: rank correlation with the end {self.correlation.describe()}"]
        for third in self.terciles:
            span = f"{third.low:.3g} to {third.high:.3g}"
            lines.append(f"  learning rate {span}: {third.correlation.describe()}")
        return lines


def describe_signals(rungs: Iterable[Signal], forms: Iterable[Correlation]) -> list[str]:
    """Return what rungs and proxies say about the end in lines for people."""
    lines = [line for signal in rungs for line in signal.describe()]
    lines += [
        f"proxy {number}: rank correlation with the next form {form.describe()}"
        for number, form in enumerate(forms, start=1)
    ]
    return lines


def signals(
    history: History, rungs: Iterable[int], epochs: int, rates: Mapping[int, float] | None = None
) -> tuple[Signal, ...]:
    """Return the signal at each rung.

    Args:
        history: the sweep so far.
        rungs: epochs at which trials were compared.
        epochs: the last epoch.
        rates: learning rate by trial, where it is searched.
    """
    found = []
    for rung in rungs:
        seen = [number for number in sorted(history.curves) if rung in history.curves[number]]
        thirds = _terciles({number: rates[number] for number in seen if number in rates}) if rates else []
        terciles = tuple(
            Tercile(low, high, correlation_at(history, rung, epochs, group)) for low, high, group in thirds
        )
        found.append(Signal(rung, correlation_at(history, rung, epochs), terciles))
    return tuple(found)


def correlation_at(
    history: History, rung: int, epochs: int, among: Collection[int] | None = None
) -> Correlation:
    """Return the rank correlation of the values at a rung with those at the last epoch.

    Args:
        history: the sweep so far.
        rung: the epoch.
        epochs: the last epoch.
        among: the trials to look at; all when not given.
    """
    numbers = sorted(history.curves if among is None else among)
    measured = [number for number in numbers if math.isfinite(history.curves[number].get(rung, math.nan))]
    losers = [number for number in measured if number in history.audited or number in history.stopped]
    both = [
        number
        for number in measured
        if number in history.complete and math.isfinite(history.curves[number].get(epochs, math.nan))
    ]
    audited = [number for number in both if number in history.audited]
    weight = len(losers) / len(audited) if audited else 1.0
    weights = [weight if number in history.audited else 1.0 for number in both]
    value = spearman(
        [history.curves[number][rung] for number in both],
        [history.curves[number][epochs] for number in both],
        weights,
    )
    low, high = interval(value, weights)
    return Correlation(value, low, high, len(both), len(audited), len(losers))


def spearman(left: Sequence[float], right: Sequence[float], weights: Sequence[float]) -> float | None:
    """Return the weighted rank correlation; ties share the middle of their ranks.

    Returns:
        Between -1 and 1; None below three pairs, or where all values of a side are equal.
    """
    if len(left) < 3 or len(set(left)) < 2 or len(set(right)) < 2:
        return None
    x, y, total = _ranks(left, weights), _ranks(right, weights), sum(weights)
    x = [rank - sum(w * r for w, r in zip(weights, x, strict=True)) / total for rank in x]
    y = [rank - sum(w * r for w, r in zip(weights, y, strict=True)) / total for rank in y]
    xy, xx, yy = (
        sum(w * a * b for w, a, b in zip(weights, p, q, strict=True)) for p, q in ((x, y), (x, x), (y, y))
    )
    return max(-1.0, min(1.0, xy / math.sqrt(xx * yy)))


def interval(value: float | None, weights: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a rank correlation of trials with these weights."""
    count = len(weights)
    if value is None or count < 4:
        return None, None
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    if effective <= 3.0:
        return None, None
    limit = 1.0 - 6.0 / (count**3 - count)
    inside = max(-limit, min(limit, value))
    reach = _NORMAL_95 * math.sqrt((1.0 + inside**2 / 2.0) / (effective - 3.0))
    middle = math.atanh(inside)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def _ranks(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the weight below each value and half of the weight at it."""
    pairs = list(zip(values, weights, strict=True))
    return [
        sum(weight for other, weight in pairs if other < value)
        + sum(weight for other, weight in pairs if other == value) / 2.0
        for value in values
    ]


def _terciles(rates: Mapping[int, float]) -> list[tuple[float, float, list[int]]]:
    """Return (lowest rate, highest, trials) of three groups of nearly equal size; equal rates together."""
    ordered = sorted(rates.values())
    if len(set(ordered)) < 3:
        return []
    first, second = ordered[(len(ordered) - 1) // 3], ordered[2 * (len(ordered) - 1) // 3]
    groups: list[list[int]] = [[], [], []]
    for number, rate in rates.items():
        groups[(rate > first) + (rate > second)].append(number)
    return [(min(rates[n] for n in group), max(rates[n] for n in group), group) for group in groups if group]
