"""Suggestions: a pure function of the seed, the trial's number and what is on record.

Each suggestion is asked of a fresh sampler over a copy of the record in memory. So what a sampler saw is what
it was given, the same question has the same answer after a crash, and what failures mean to a sampler is
decided by us alone (the table is in `shown`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raysl.errors import InputError
from raysl.tune.records.entry import Entry
from raysl.tune.samplers.by_optuna import OptunaAsker, check_options
from raysl.tune.samplers.evolution import Evolution, adapted, population
from raysl.tune.samplers.sequences import Chance, LowDiscrepancy, grid_of
from raysl.tune.samplers.suggestion import Suggestion, seed_of
from raysl.tune.spaces.domains import CategoricalDomain
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.sampler_config import (
    CMAESConfig,
    GPConfig,
    GridConfig,
    NSGA2Config,
    QMCConfig,
    RandomConfig,
    SamplerConfig,
    TPEConfig,
)

_TRIES = 200
_SHARE = 0xB0B
# After so many refused suggestions, chance goes on; those of a GP cost up to a second each.
_PATIENCE, _PATIENCE_WITH_GP = 50, 6


class _Asker(Protocol):
    def ask(self, attempt: int) -> Suggestion: ...


def suggest(space: Space, number: int, seen: Sequence[Entry], *, index: int | None = None) -> Suggestion:
    """Suggest the parameters of a trial.

    Args:
        space: the search space.
        number: the trial's number.
        seen: the record of the searched trials before it, as far as it is known.
        index: how many suggestions were asked for before it, known or not; the number when not given.

    Raises:
        SpaceExhaustedError: the grid is used up.
        InputError: no suggestion satisfies the constraints, or the sampler refuses its options.
    """
    check_sampler(space)
    index = number if index is None else index
    if isinstance(space.config.sampler, GridConfig):
        return grid_of(space).suggest(index)
    asker, chance = _asker(space, number, index, seen), Chance(space, number)
    patience = _PATIENCE_WITH_GP if isinstance(space.config.sampler, GPConfig) else _PATIENCE
    if _is_left_to_chance(space.config.sampler, number):
        patience = 0
    refusal: str | None = None
    for attempt in range(_TRIES):
        found = (asker if attempt < patience else chance).ask(attempt)
        refusal = space.refusal(found.params)
        if refusal is None:
            return found
    raise InputError(
        f"trial {number}: {_TRIES} suggestions in a row were refused, the last one because it {refusal}; "
        "widen the domains or loosen the constraints"
    )


def _is_left_to_chance(config: SamplerConfig, number: int) -> bool:
    """Tell whether a trial is one of the random share; a function of the seed and the number alone."""
    if not isinstance(config, TPEConfig | GPConfig):
        return False
    return seed_of(config.seed, number, _SHARE) < config.random_share * 2**32


def check_sampler(space: Space) -> None:
    """Check that the sampler can work on this space.

    Raises:
        InputError: it has no such option, its grid is not finite, or it knows one objective only.
    """
    config = space.config.sampler
    check_options(config)
    if isinstance(config, CMAESConfig) and len(space.config.objective) > 1:
        raise InputError(
            f"sampler.name = cmaes: knows one objective, and there are {len(space.config.objective)}; "
            "use nsga2, tpe or gp, or keep one objective"
        )
    if isinstance(config, GridConfig):
        grid_of(space)


def capacity(space: Space) -> int | None:
    """Return how many suggestions there are in all: the points of a grid; None without an end.

    Raises:
        InputError: the grid is not finite.
    """
    return len(grid_of(space)) if isinstance(space.config.sampler, GridConfig) else None


def warnings_for(space: Space) -> list[str]:
    """Return what the sampler cannot do on this space, a sentence each.

    Raises:
        InputError: as `check_sampler`.
    """
    check_sampler(space)
    config, search, trials = space.config.sampler, space.config.search, space.config.trials
    found = []
    by_chance = [key for key, domain in search.items() if domain.when]
    if isinstance(config, GPConfig | CMAESConfig | NSGA2Config):
        if by_chance:
            found.append(
                f"{config.name}: keys under a condition are drawn by chance ({', '.join(by_chance)}); "
                "tpe models them"
            )
        if space.config.stopping.rule != "none":
            told = (
                "as worse than all complete ones"
                if isinstance(config, CMAESConfig)
                else "with their last value, no better than the median of complete ones"
            )
            found.append(
                f"{config.name}: knows no pruned trials; they count {told}; tpe, or stopping.rule=none, is "
                "sounder"
            )
    if isinstance(config, CMAESConfig):
        found += _warnings_for_cmaes(config, space)
    if isinstance(config, TPEConfig | GPConfig) and trials <= config.n_startup_trials:
        found.append(
            f"{config.name}: all {trials} trials are drawn by chance; raise trials, or lower "
            f"sampler.n_startup_trials = {config.n_startup_trials}"
        )
    if isinstance(config, NSGA2Config) and trials < 2 * config.population_size:
        found.append(
            f"nsga2: {trials} trials are less than two generations; raise trials, or lower "
            f"sampler.population_size = {config.population_size}"
        )
    if isinstance(config, GridConfig):
        points, priors = len(grid_of(space)), len(space.config.priors)
        if points + priors != trials:
            run = min(points, max(0, trials - priors))
            beside = f", {priors} of them priors" if priors else ""
            found.append(f"grid: {run} of its {points} points are run; trials = {trials}{beside}")
    return found


def _warnings_for_cmaes(config: CMAESConfig, space: Space) -> list[str]:
    keys, trials = adapted(space), space.config.trials
    if len(keys) < 2:
        return [
            "cmaes: needs two numeric keys without a condition; every key is drawn by chance; use tpe or gp"
        ]
    found = []
    categorical = [
        key for key, domain in space.config.search.items() if isinstance(domain, CategoricalDomain)
    ]
    if categorical:
        found.append(
            f"cmaes: categorical keys are drawn by chance ({', '.join(categorical)}); "
            "tpe, gp and nsga2 model them"
        )
    size = population(config, len(keys))
    if trials < 5 * size:
        found.append(
            f"cmaes: {trials} trials are less than five generations of {size}; use tpe or gp, or raise trials"
        )
    return found


def _asker(space: Space, number: int, index: int, seen: Sequence[Entry]) -> _Asker:
    config = space.config.sampler
    if isinstance(config, RandomConfig):
        return Chance(space, number)
    if isinstance(config, QMCConfig):
        return LowDiscrepancy(config, space, index)
    if isinstance(config, CMAESConfig):
        return Evolution(config, space, number, seen)
    if isinstance(config, TPEConfig | GPConfig | NSGA2Config):
        return OptunaAsker(config, space, number, seen)
    raise InputError(f"sampler.name = {config.name!r}: a grid is asked as a whole")
