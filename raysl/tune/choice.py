"""Which trial is the best, given that some of the differences between trials are luck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev

from raysl.tune.records.entry import Entry
from raysl.tune.spaces.space import SpaceConfig

_AS_CHEAP = 1.1
"""Trials whose epochs take so little longer than the quickest one's count as equally cheap."""


@dataclass(frozen=True)
class Choice:
    """What a sweep recommends.

    Args:
        best: the complete trial with the best first objective.
        chosen: the cheapest trial that is as good as it, as far as can be told.
        equivalent: numbers of all trials as good as the best, by number; the best is one of them.
        deviation: standard deviation between seeds of one configuration; None where it was not measured.
        seeds: first objectives of the chosen configuration with each of its seeds, its own first.
    """

    best: Entry
    chosen: Entry
    equivalent: tuple[int, ...]
    deviation: float | None
    seeds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds of the chosen configuration: what to expect of it."""
        return mean(self.seeds)


def choose(trials: Sequence[Entry], config: SpaceConfig) -> Choice | None:
    """Return what a record recommends, or None where no trial has completed.

    Only further seeds of the first configuration measure luck, so that the answer stays what it was while
    further seeds of the chosen one are run. With `deterministic`, the best trial is chosen whatever it cost,
    because times vary.
    """
    best = best_of(trials, config)
    if best is None or best.value is None:
        return None
    deviation = seed_deviation(trials, config)
    reach = 0.0 if deviation is None else config.noise.deviations * deviation
    equivalent = [
        entry for entry in _finalists(trials)
        if entry.value is not None and abs(entry.value - best.value) <= reach
    ]  # fmt: skip
    chosen = best if config.deterministic else _cheapest(equivalent, best, config)
    numbers = tuple(entry.number for entry in equivalent)
    return Choice(best, chosen, numbers, deviation, seed_values(trials, chosen))


def best_of(trials: Sequence[Entry], config: SpaceConfig) -> Entry | None:
    """Return the complete trial with the best first objective at its last epoch; of equals, the first."""
    sign = _sign(config)
    return min(
        _finalists(trials), key=lambda entry: (sign * (entry.value or 0.0), entry.number), default=None
    )


def ranked(trials: Sequence[Entry], config: SpaceConfig, fidelity: int) -> list[Entry]:
    """Return the complete trials of a form, but further seeds, from the best on; of equals, the first."""
    found = [entry for entry in _complete(trials) if entry.role.fidelity == fidelity]
    return sorted(found, key=lambda entry: (_sign(config) * (entry.value or 0.0), entry.number))


def pareto_front(trials: Sequence[Entry], config: SpaceConfig) -> list[int]:
    """Return the numbers of trials that no other beats in every objective, by number."""
    signs = [-1.0 if one.direction == "maximize" else 1.0 for one in config.objective]
    points = {
        entry.number: [sign * value for sign, value in zip(signs, entry.values, strict=True)]
        for entry in _finalists(trials)
        if entry.values is not None
    }
    return [
        number for number, point in points.items()
        if not any(
            other != point and all(left <= right for left, right in zip(other, point, strict=True))
            for other in points.values()
        )
    ]  # fmt: skip


def seed_deviation(trials: Sequence[Entry], config: SpaceConfig) -> float | None:
    """Return the standard deviation between the seeds of the first prior; None without two values.

    Only the `noise.seeds` that it begins with count. Where it is chosen and gets further seeds, they must not
    change what was chosen by.
    """
    if not config.priors:
        return None
    values = [
        entry.value
        for entry in trials
        if entry.number == 0 or (entry.role.of == 0 and entry.role.kind == "repeat")
        if entry.role.fidelity == 0 and entry.role.seed < config.noise.seeds and entry.value is not None
    ]
    return stdev(values) if len(values) > 1 else None


def seed_values(trials: Sequence[Entry], origin: Entry) -> tuple[float, ...]:
    """Return the first objectives of a configuration with each of its seeds, those of `origin` first."""
    same = [origin, *(entry for entry in trials if _is_seed_of(entry, origin))]
    return tuple(entry.value for entry in same if entry.value is not None)


def _is_seed_of(entry: Entry, origin: Entry) -> bool:
    role = entry.role
    return role.kind == "repeat" and role.of == origin.number and role.fidelity == origin.role.fidelity


def _finalists(trials: Sequence[Entry]) -> list[Entry]:
    """Return the complete trials, but further seeds, of the dearest form that any has completed."""
    complete = _complete(trials)
    dearest = max((entry.role.fidelity for entry in complete), default=0)
    return [entry for entry in complete if entry.role.fidelity == dearest]


def _complete(trials: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in trials if entry.state == "complete" and entry.role.kind != "repeat"]


def _cheapest(equivalent: Sequence[Entry], best: Entry, config: SpaceConfig) -> Entry:
    costs = {entry.number: epoch_seconds(entry) for entry in equivalent}
    if any(map(math.isnan, costs.values())):
        return best
    least = min(costs.values())
    cheap = [entry for entry in equivalent if costs[entry.number] <= _AS_CHEAP * least]
    return min(cheap, key=lambda entry: (_sign(config) * (entry.value or 0.0), entry.number), default=best)


def epoch_seconds(entry: Entry) -> float:
    """Return the median seconds of a trial's epochs after the first of each attempt; NaN where none is."""
    pairs = zip(entry.reports, entry.reports[1:], strict=False)
    return median([b.time - a.time for a, b in pairs if a.fence == b.fence] or [math.nan])


def _sign(config: SpaceConfig) -> float:
    return -1.0 if config.target.direction == "maximize" else 1.0
