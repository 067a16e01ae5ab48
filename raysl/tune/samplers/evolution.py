"""CMA-ES. Its state is computed anew from the record at every suggestion, so that nothing is pickled.

What is kept with a trial is the generation it was drawn in and the point it was drawn at, in the unit cube.
The optimizer begins in the middle, and each generation of which enough trials have ended is told to it: the
first of them by number, by their ranks, which is all that CMA-ES looks at. Asking more often than a
generation has trials draws more from the same distribution.

Source: Hansen 2016, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772, through the package `cmaes`;
with margin, where a domain has steps: Hamano et al. 2022, arXiv:2205.13482.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cmaes
import numpy as np

from raysl.tune.records.entry import Entry
from raysl.tune.samplers.shown import ranks
from raysl.tune.samplers.suggestion import Suggestion, at, chosen, level, levels, seed_of
from raysl.tune.spaces.domains import CategoricalDomain, Domain, Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.sampler_config import CMAESConfig

_GENERATION, _POINT = "cmaes:generation", "cmaes:point"


def adapted(space: Space) -> list[str]:
    """Return the keys that CMA-ES can adapt: numeric, searched in every trial, with more than one value."""
    return [
        key
        for key, domain in space.config.search.items()
        if not domain.when and not isinstance(domain, CategoricalDomain) and levels(domain) != 1
    ]


def population(config: CMAESConfig, dimensions: int) -> int:
    """Return how many trials a generation has."""
    return config.population_size or 4 + math.floor(3 * math.log(max(1, dimensions)))


class Evolution:
    """Draws from the distribution that the record has led to; keys it cannot adapt are drawn by chance.

    Args:
        config: its settings.
        space: the search space.
        number: the trial's number.
        seen: the record.
    """

    def __init__(self, config: CMAESConfig, space: Space, number: int, seen: Sequence[Entry]) -> None:
        self._config, self._space, self._number = config, space, number
        self._keys = adapted(space)
        # One dimension has no covariance.
        self._optimizer = self._evolved(seen) if len(self._keys) > 1 else None

    def ask(self, attempt: int) -> Suggestion:
        """Return a suggestion."""
        seed = seed_of(self._config.seed, self._number, attempt)
        point, attrs = dict[str, float](), dict[str, object]()
        if self._optimizer is not None:
            self._optimizer.reseed_rng(seed)
            asked = self._optimizer.ask()
            drawn, told = asked if isinstance(asked, tuple) else (asked, asked)
            point = dict(zip(self._keys, drawn.tolist(), strict=True))
            attrs = {_GENERATION: self._optimizer.generation, _POINT: told.tolist()}
        chance = np.random.default_rng(seed)

        def choose(key: str, domain: Domain) -> Scalar:
            share = float(chance.random())
            if key not in point:
                return at(domain, share)
            count = _steps(domain)
            # At the ends of the cube are the first and the last value.
            return at(domain, point[key]) if count is None else level(domain, round(point[key] * (count - 1)))

        return chosen(self._space, choose, attempt, attrs)

    def _evolved(self, seen: Sequence[Entry]) -> cmaes.CMA | cmaes.SepCMA | cmaes.CMAwM:
        optimizer = self._begun()
        places = ranks(seen, self._space.config.objective[0])
        generations: dict[int, list[Entry]] = {}
        for entry in sorted(seen, key=lambda entry: entry.number):
            if entry.number in places and _GENERATION in entry.system_attrs:
                generations.setdefault(entry.system_attrs[_GENERATION], []).append(entry)
        size = optimizer.population_size
        while len(told := generations.get(optimizer.generation, [])[:size]) == size:
            optimizer.tell(
                [(np.array(entry.system_attrs[_POINT]), float(places[entry.number])) for entry in told]
            )
        return optimizer

    def _begun(self) -> cmaes.CMA | cmaes.SepCMA | cmaes.CMAwM:
        dimensions = len(self._keys)
        mean, bounds = np.full(dimensions, 0.5), np.array([[0.0, 1.0]] * dimensions)
        sigma, seed, tries = self._config.sigma, self._config.seed, 10 * dimensions
        size = population(self._config, dimensions)
        if self._config.separable:
            return cmaes.SepCMA(mean, sigma, bounds, tries, seed, size)
        counts = [_steps(self._space.config.search[key]) for key in self._keys]
        if self._config.lr_adapt or not any(counts):
            return cmaes.CMA(mean, sigma, bounds, tries, seed, size, lr_adapt=self._config.lr_adapt)
        steps = np.array([0.0 if count is None else 1 / (count - 1) for count in counts])
        return cmaes.CMAwM(mean, sigma, bounds, steps, tries, seed, size)


def _steps(domain: Domain) -> int | None:
    """Return how many evenly spaced values a numeric domain has; None where it is smooth enough without."""
    return None if isinstance(domain, CategoricalDomain) or domain.log else levels(domain)
