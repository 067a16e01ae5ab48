"""Suggestions: a pure function of the seed, the trial's number and what is on record.

Each suggestion is asked of a fresh sampler over a copy of the record in memory. So what a sampler saw is what
it was given, the same question has the same answer after a crash, and what failures mean to a sampler is
decided here alone:

    complete                     its value at the last epoch; feasible
    pruned                       its curve; feasible; TPE ranks it below complete trials, longer ones first
    running                      TPE takes its neighbourhood as bad until it is known (constant liar)
    failed: nan, inf, collapse,  its parameters are to blame: infeasible, the more so the earlier it died;
            oom, error           TPE ranks it below all others, so later suggestions keep away from it
    failed: killed               nobody knows what the parameters were worth: not shown
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from raysl.config import nearest
from raysl.errors import InputError
from raysl.tune.entry import Entry
from raysl.tune.resolve import Space
from raysl.tune.space import CategoricalDomain, Domain, IntDomain, SamplerConfig, Scalar

BLAMELESS = frozenset({"killed"})
_TRIES = 200


@dataclass(frozen=True)
class Suggestion:
    """Parameters for the next trial.

    Args:
        params: value of every active key.
        distributions: Optuna's form of their domains.
        rejected: suggestions before it that broke a constraint.
        system_attrs: what the sampler itself wants kept with the trial.
    """

    params: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    rejected: int = 0
    system_attrs: dict[str, Any] = field(default_factory=dict)


def suggest(space: Space, number: int, seen: Sequence[Entry]) -> Suggestion:
    """Suggest the parameters of a trial.

    Args:
        space: the search space.
        number: the trial's number.
        seen: the record of all trials before it.

    Raises:
        InputError: no suggestion satisfies the constraints, or the sampler refuses its options.
    """
    refusal: str | None = None
    for attempt in range(_TRIES):
        found = _ask(space, number, attempt, seen)
        refusal = space.refusal(found.params)
        if refusal is None:
            return found
    raise InputError(
        f"trial {number}: {_TRIES} suggestions in a row were refused, the last one because it {refusal}; "
        "widen the domains or loosen the constraints"
    )


def _ask(space: Space, number: int, attempt: int, seen: Sequence[Entry]) -> Suggestion:
    seed = int(np.random.SeedSequence([space.config.sampler.seed, number, attempt]).generate_state(1)[0])
    with quiet_optuna():
        sampler = _sampler(space.config.sampler, seed)
        study = optuna.create_study(direction=space.config.objective.direction, sampler=sampler)
        study.add_trials([_as_seen(entry, space.epochs) for entry in seen])
        trial = study.ask()
        params: dict[str, Scalar] = {}
        for key, domain in space.config.search.items():
            if space.is_active(domain, params):
                params[key] = _suggest_one(trial, key, domain)
        kept = study.get_trials(deepcopy=False)[-1]
    return Suggestion(params, dict(kept.distributions), attempt, dict(kept.system_attrs))


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence what Optuna says at every study and ask: that one was created, that `group` is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _sampler(config: SamplerConfig, seed: int) -> BaseSampler:
    try:
        if config.name == "random":
            return RandomSampler(seed=seed, **config.options)
        defaults: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True}
        if not hasattr(Trial, "set_constraint"):
            # Before Optuna 5 the sampler looks at constraints only if it is given such a function.
            defaults["constraints_func"] = lambda trial: ()
        return TPESampler(seed=seed, n_startup_trials=config.n_startup_trials, **(defaults | config.options))
    except (TypeError, ValueError) as error:
        known = (
            {"n_ei_candidates", "multivariate", "group", "constant_liar"} if config.name == "tpe" else set()
        )
        hint = (
            "; ".join(nearest(option, known) for option in config.options)
            if known
            else "random has no options"
        )
        raise InputError(f"sampler.options: {error} ({hint})") from None


def _suggest_one(trial: Trial, key: str, domain: Domain) -> Scalar:
    if isinstance(domain, CategoricalDomain):
        return trial.suggest_categorical(key, domain.choices)
    if isinstance(domain, IntDomain):
        return trial.suggest_int(key, domain.low, domain.high, step=domain.step, log=domain.log)
    return trial.suggest_float(key, domain.low, domain.high, step=domain.step, log=domain.log)


def distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's form of a domain."""
    if isinstance(domain, CategoricalDomain):
        return CategoricalDistribution(domain.choices)
    if isinstance(domain, IntDomain):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def _as_seen(entry: Entry, epochs: int) -> FrozenTrial:
    """Return a trial as a sampler is to see it."""
    state, value, attrs = TrialState.RUNNING, None, dict(entry.system_attrs)
    if entry.state in {"complete", "pruned"}:
        # Said outright: before Optuna 5, a trial that says nothing ranks below the infeasible ones.
        attrs["constraints"] = [0.0]
    if entry.state == "complete":
        state, value = TrialState.COMPLETE, entry.value
    elif entry.state == "pruned":
        state = TrialState.PRUNED
    elif entry.state == "failed" and entry.cause in BLAMELESS:
        state = TrialState.FAIL
    elif entry.state == "failed":
        state = TrialState.PRUNED
        attrs["constraints"] = [float(max(1, epochs - entry.epoch))]
    return create_trial(
        state=state,
        value=value,
        params=entry.params,
        distributions=entry.distributions,
        system_attrs=attrs,
        intermediate_values={epoch: at for epoch, at in entry.curve.items() if math.isfinite(at)},
    )
