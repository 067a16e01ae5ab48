"""How large a search space is, and how many epochs a sweep of it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysl.tune.judging.history import History
from raysl.tune.judging.rungs import rule_of
from raysl.tune.samplers.sequences import Chance
from raysl.tune.samplers.suggest import capacity
from raysl.tune.samplers.suggestion import levels
from raysl.tune.spaces.domains import Domain, Scalar
from raysl.tune.spaces.resolve import Space

DRAWS = 200
"""Random configurations by which the share that the constraints accept is told."""
_MOST_TRIALS = 100
_OTHER = object()


@dataclass(frozen=True)
class Size:
    """How many configurations there are, before constraints.

    Args:
        combinations: of the finite keys alone, each conditional one counted where it is searched.
        continuous: keys with a continuum of values, the conditional ones included.
    """

    combinations: int
    continuous: int

    @property
    def configurations(self) -> float:
        """How many there are in all."""
        return math.inf if self.continuous else self.combinations

    def describe(self) -> str:
        """Return it in a few words."""
        count = f"{self.combinations:,} combination{'s' if self.combinations != 1 else ''}"
        if not self.continuous:
            return f"{self.combinations:,} configuration{'s' if self.combinations != 1 else ''}"
        keys = f"{self.continuous} continuous dimension{'s' if self.continuous > 1 else ''}"
        return f"infinite: {keys}" + (f", and {count} of the others" if self.combinations > 1 else "")


def size_of(space: Space) -> Size:
    """Count the configurations of a space."""
    domains = space.config.search
    continuous = [key for key, domain in domains.items() if levels(domain) is None]
    return Size(_count(space, list(domains.items()), {}), len(continuous))


def _count(space: Space, left: list[tuple[str, Domain]], chosen: dict[str, Any]) -> int:
    if not left:
        return 1
    (key, domain), rest = left[0], left[1:]
    if not space.is_active(domain, chosen):
        return _count(space, rest, chosen)
    # Only values that a condition names have to be told apart.
    named: list[Scalar] = []
    for _, other in rest:
        wanted = other.when.get(key, [])
        named += [v for v in (wanted if isinstance(wanted, list) else [wanted]) if v not in named]
    named = [value for value in named if key and domain.contains(value)]
    finite = levels(domain)
    others = 1 if finite is None else finite - len(named)
    counted = sum(_count(space, rest, {**chosen, key: value}) for value in named if finite is not None)
    return counted + (others * _count(space, rest, {**chosen, key: _OTHER}) if others else 0)


@dataclass(frozen=True)
class Draws:
    """What became of random configurations.

    Args:
        accepted: share of them that can be trials.
        refusals: why the others cannot, and how many each, the most frequent first.
        unused: keys that none of them has.
    """

    accepted: float
    refusals: dict[str, int]
    unused: tuple[str, ...] = ()


def draw(space: Space) -> Draws:
    """Draw configurations at random and see which can be trials; always the same ones."""
    chance, refusals, unused = Chance(space, 0), dict[str, int](), set(space.config.search)
    for attempt in range(DRAWS):
        params = chance.ask(attempt).params
        unused -= params.keys()
        told = space.refusal(params)
        if told is not None:
            refusals[told] = refusals.get(told, 0) + 1
    ordered = dict(sorted(refusals.items(), key=lambda item: -item[1]))
    never = tuple(key for key in space.config.search if key in unused)
    return Draws(1.0 - sum(refusals.values()) / DRAWS, ordered, never)


@dataclass(frozen=True)
class Epochs:
    """How many epochs a sweep takes.

    Args:
        worst: where nobody is stopped.
        typical: where trials that are alike but for luck and quality go by the stopping rule.
    """

    worst: int
    typical: int


def epochs_of(space: Space) -> Epochs:
    """Count the epochs of a sweep that runs all its trials, repeats and promotions."""
    config = space.config
    # Priors are no points of a grid, even where they are the same.
    points = capacity(space)
    trials = config.trials if points is None else min(config.trials, points + len(config.priors))
    again = (config.noise.seeds - 1) * space.epochs if config.priors else 0
    for number, proxy in enumerate(config.proxy):
        again += min(proxy.promote, trials) * space.epochs_of(number + 1)
    last = space.epochs_of(space.last_fidelity)
    again += ((config.noise.best_seeds or config.noise.seeds) - 1) * last
    return Epochs(trials * space.epochs + again, _stopped(space, trials) + again)


def _stopped(space: Space, trials: int) -> int:
    """Return the epochs of searched trials that the rule sees one after the other.

    Their curves rise, fall behind each other by their quality, and are a little noisy: with any others the
    rule would stop at other epochs, and with those of bad luck later.
    """
    config, epochs = space.config, space.epochs
    rule, chance = rule_of(config, epochs), np.random.default_rng(0)
    count = min(trials, _MOST_TRIALS)
    every = space.base.diagnostics.every if config.judged.metric.startswith("eval/knn") else 1
    sign = 1.0 if config.judged.direction == "maximize" else -1.0
    curves: dict[int, dict[int, float]] = {}
    complete, stopped, audited = set[int](), set[int](), dict[int, int]()
    total = 0
    for number in range(count):
        quality, curves[number] = chance.normal(), {}
        for epoch in range(1, epochs + 1):
            total += 1
            if epoch % every == 0:
                rise = 5.0 * (1.0 - math.exp(-4.0 * epoch / epochs))
                curves[number][epoch] = sign * (rise + quality + 0.1 * chance.normal())
            history = History(curves, frozenset(complete), audited, frozenset(stopped))
            decision = rule.decide(history, number, epoch) if epoch < epochs else None
            if decision is not None and decision.audit:
                audited[number] = epoch
            if decision is not None and decision.stop and not decision.audit:
                stopped.add(number)
                break
        else:
            complete.add(number)
    return round(total * trials / count)
