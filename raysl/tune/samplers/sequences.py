"""Chance, low-discrepancy sequences and grids: suggestions that look at no trial.

The place of a suggestion in a sequence or grid is how many were asked for before it, whatever has become of
those, so that no place is taken twice and none depends on what a sweep had seen by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np
from scipy.stats import qmc

from raysl.errors import InputError
from raysl.tune.samplers.suggestion import Suggestion, at, chosen, level, levels, quiet_optuna, seed_of
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.sampler_config import QMCConfig

_MOST_POINTS = 20_000


class SpaceExhaustedError(InputError):
    """There is nothing left to suggest: every point of the grid was."""


class Chance:
    """Draws every key by itself.

    Args:
        space: the search space.
        number: the trial's number.
    """

    def __init__(self, space: Space, number: int) -> None:
        self._space, self._number = space, number

    def ask(self, attempt: int) -> Suggestion:
        """Return a suggestion."""
        chance = np.random.default_rng(seed_of(self._space.config.sampler.seed, self._number, attempt))
        return chosen(self._space, lambda key, domain: at(domain, float(chance.random())), attempt)


class LowDiscrepancy:
    """Takes points of a sequence in the unit cube that has a side for every key.

    Args:
        config: its settings.
        space: the search space.
        index: suggestions before this one.
    """

    def __init__(self, config: QMCConfig, space: Space, index: int) -> None:
        self._config, self._space, self._index = config, space, index

    def ask(self, attempt: int) -> Suggestion:
        """Return a suggestion; in place of a refused one, the same place of another scrambled sequence."""
        keys = list(self._space.config.search)
        kind = qmc.Sobol if self._config.qmc_type == "sobol" else qmc.Halton
        generator = np.random.default_rng(np.random.SeedSequence([self._config.seed, attempt]))
        with quiet_optuna():  # Sobol says that only powers of two are balanced
            sequence = kind(len(keys), scramble=self._config.scramble or attempt > 0, seed=generator)
            if self._index:
                sequence.fast_forward(self._index)
            point = dict(zip(keys, sequence.random(1)[0].tolist(), strict=True))
        return chosen(self._space, lambda key, domain: at(domain, point[key]), attempt)


class Grid:
    """Every combination of the active keys' values that can be a trial, in an order shuffled by the seed.

    Args:
        space: the search space.

    Raises:
        InputError: a domain is not finite, or there are too many combinations.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        endless = [key for key, domain in space.config.search.items() if levels(domain) is None]
        if endless:
            raise InputError(
                f"sampler.name = grid: {', '.join(endless)}: not a finite set of values; "
                "give a step, or list the values as the choices of a categorical"
            )
        points: list[dict[str, Scalar]] = []
        for point in self._combinations({}, list(space.config.search)):
            points.append(point)
            if len(points) > _MOST_POINTS:
                raise InputError(
                    f"sampler.name = grid: more than {_MOST_POINTS} combinations; "
                    "use wider steps or fewer keys, or sampler.name = qmc"
                )
        order = np.random.default_rng(space.config.sampler.seed).permutation(len(points))
        self._left = iter([points[place] for place in order])
        self._taken: list[Suggestion] = []
        self._refused, self._refusal = 0, ""

    def suggest(self, index: int) -> Suggestion:
        """Return a point.

        Args:
            index: suggestions before this one.

        Raises:
            SpaceExhaustedError: there are not so many.
        """
        while len(self._taken) <= index and self._advance():
            pass
        if len(self._taken) > index:
            return self._taken[index]
        if not self._taken:
            raise InputError(
                f"the grid has {self._refused} points and all of them were refused, the last one because it "
                f"{self._refusal}; widen the domains or loosen the constraints"
            )
        raise SpaceExhaustedError(
            f"the grid is used up: {len(self._taken)} points were suggested and {self._refused} refused by "
            "constraints; the sweep is complete, unless the domains are widened"
        )

    def __len__(self) -> int:
        while self._advance():
            pass
        return len(self._taken)

    def _advance(self) -> bool:
        """Take the next point that can be a trial and return whether there was one."""
        rejected = 0
        for point in self._left:
            refusal = self._space.refusal(point)
            if refusal is None:
                self._taken.append(chosen(self._space, lambda key, domain: point[key], rejected))  # noqa: B023
                return True
            self._refused, self._refusal, rejected = self._refused + 1, refusal, rejected + 1
        return False

    def _combinations(self, params: dict[str, Scalar], keys: list[str]) -> Iterator[dict[str, Scalar]]:
        """Yield all values of the given keys, each under the values before it."""
        if not keys:
            yield params
            return
        domain = self._space.config.search[keys[0]]
        if not self._space.is_active(domain, params):
            yield from self._combinations(params, keys[1:])
            return
        for number in range(levels(domain) or 0):
            yield from self._combinations({**params, keys[0]: level(domain, number)}, keys[1:])


_GRIDS: WeakKeyDictionary[Space, Grid] = WeakKeyDictionary()


def grid_of(space: Space) -> Grid:
    """Return the grid of a space; made once, because checking all of it against constraints takes a while."""
    if space not in _GRIDS:
        _GRIDS[space] = Grid(space)
    return _GRIDS[space]
