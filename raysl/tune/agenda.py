"""What comes next: a pure function of the search space and the record.

The order is: the priors, the first of them with all its seeds; then suggestions; where there is a proxy, the
best of each form in the next one; last, further seeds of the configuration that is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from optuna.distributions import BaseDistribution

from raysl.tune.choice import choose, ranked
from raysl.tune.records.entry import Entry, Role
from raysl.tune.samplers.sequences import SpaceExhaustedError
from raysl.tune.samplers.suggest import suggest
from raysl.tune.samplers.suggestion import distribution
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig


class Answer(Enum):
    """Why there is no trial to run."""

    LATER = "later"
    """All slots are taken, or what is running may decide what comes next, or have to be run again."""
    NEVER = "never"
    """Every trial has ended."""


@dataclass(frozen=True)
class Proposal:
    """The next trial.

    Args:
        params: value of every active key.
        distributions: Optuna's form of their domains.
        role: what the trial is for.
        rejected: suggestions before it that broke a constraint.
        system_attrs: what the sampler itself wants kept with the trial.
    """

    params: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    role: Role
    rejected: int = 0
    system_attrs: dict[str, Any] = field(default_factory=dict)


def propose(space: Space, trials: Sequence[Entry]) -> Proposal | Answer:
    """Return the next trial, or why there is none.

    Args:
        space: the search space.
        trials: the record.

    Raises:
        InputError: no suggestion satisfies the constraints, or a prior cannot be a trial.
    """
    config = space.config
    seed = _seed_of_first(trials, config)
    if seed is not None:
        return _again(trials[0], Role("repeat", 0, seed))
    searched = sum(is_searched(entry) for entry in trials)
    if searched < config.trials:
        if config.deterministic and any(
            entry.state == "running" for entry in known_to(trials, len(trials), config)
        ):
            return Answer.LATER
        if searched < len(config.priors):
            return _prior(space, searched)
        seen = [entry for entry in known_to(trials, len(trials), config) if is_searched(entry)]
        with suppress(SpaceExhaustedError):  # a grid may end before the trials do
            found = suggest(space, len(trials), seen, index=max(0, searched - len(config.priors)))
            return Proposal(found.params, found.distributions, Role(), found.rejected, found.system_attrs)
    for fidelity in range(space.last_fidelity):
        if _any_running(trials, fidelity):
            return Answer.LATER
        proxy, taken = config.proxy[fidelity], _promoted(trials, fidelity + 1)
        for entry in ranked(trials, config, fidelity)[: proxy.promote]:
            if entry.number not in taken:
                return _again(entry, Role("promotion", entry.number, entry.role.seed, fidelity + 1))
    if _any_running(trials, space.last_fidelity):
        return Answer.LATER
    return _seeds_of_chosen(trials, config)


def known_to(trials: Sequence[Entry], number: int, config: SpaceConfig) -> Sequence[Entry]:
    """Return the trials that a trial may know of: with `deterministic`, those `concurrent` before it."""
    if config.deterministic and config.concurrent is not None:
        return trials[: max(0, number - config.concurrent + 1)]
    return trials


def is_searched(entry: Entry) -> bool:
    """Tell whether a trial is one that samplers and stopping rules compare."""
    return entry.role.kind == "search"


def _seed_of_first(trials: Sequence[Entry], config: SpaceConfig) -> int | None:
    """Return the next seed that the first prior lacks, once it is on record; None where it has all."""
    if not trials or not config.priors:
        return None
    done = {entry.role.seed for entry in trials if entry.role.kind == "repeat" and entry.role.of == 0}
    return next((seed for seed in range(1, config.noise.seeds) if seed not in done), None)


def _prior(space: Space, number: int) -> Proposal:
    params = space.prior(number)
    distributions = {key: distribution(space.config.search[key]) for key in params}
    return Proposal(params, distributions, Role())


def _again(entry: Entry, role: Role) -> Proposal:
    return Proposal(dict(entry.params), dict(entry.distributions), role)


def _any_running(trials: Sequence[Entry], fidelity: int) -> bool:
    return any(entry.state == "running" and entry.role.fidelity == fidelity for entry in trials)


def _promoted(trials: Sequence[Entry], fidelity: int) -> set[int | None]:
    return {
        entry.role.of for entry in trials
        if entry.role.kind == "promotion" and entry.role.fidelity == fidelity
    }  # fmt: skip


def _seeds_of_chosen(trials: Sequence[Entry], config: SpaceConfig) -> Proposal | Answer:
    choice = choose(trials, config)
    if choice is None:
        return Answer.NEVER
    chosen = choice.chosen
    done = {
        entry.role.seed for entry in trials
        if entry.role.kind == "repeat"
        and entry.role.of == chosen.number
        and entry.role.fidelity == chosen.role.fidelity
    }  # fmt: skip
    for seed in range(1, config.noise.best_seeds or config.noise.seeds):
        if seed not in done:
            return _again(chosen, Role("repeat", chosen.number, seed, chosen.role.fidelity))
    return Answer.NEVER
