"""TPE, GP and NSGA-II: Optuna's samplers, each asked anew over a copy of the record in memory."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler, nsgaii
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from raysl.config import nearest
from raysl.errors import InputError
from raysl.tune.records.entry import Entry
from raysl.tune.samplers.shown import as_complete, for_tpe
from raysl.tune.samplers.suggestion import Suggestion, quiet_optuna, seed_of
from raysl.tune.spaces.domains import CategoricalDomain, Domain, IntDomain, Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.sampler_config import GPConfig, NSGA2Config, SamplerConfig, TPEConfig

_CROSSOVERS = {
    "blx_alpha": nsgaii.BLXAlphaCrossover,
    "sbx": nsgaii.SBXCrossover,
    "vsbx": nsgaii.VSBXCrossover,
    "undx": nsgaii.UNDXCrossover,
    "spx": nsgaii.SPXCrossover,
}
# Arguments that no file can hold, or that are none of a sweep's business.
_NOT_PLAIN = {
    "self", "seed", "gamma", "weights", "constraints_func", "independent_sampler", "crossover", "mutation",
    "elite_population_selection_strategy", "child_generation_strategy", "after_trial_strategy",
    "warn_independent_sampling",
}  # fmt: skip


class OptunaAsker:
    """Asks one of Optuna's samplers for one trial.

    Before another suggestion is asked for, TPE and GP are shown the refused one as one that failed by its
    parameters; they would come back with nearly the same, as nothing is known where no trial can be.

    Args:
        config: its settings.
        space: the search space.
        number: the trial's number.
        seen: the record.
    """

    def __init__(
        self, config: TPEConfig | GPConfig | NSGA2Config, space: Space, number: int, seen: Sequence[Entry]
    ) -> None:
        self._config, self._space, self._number = config, space, number
        objectives = space.config.objective
        if isinstance(self._config, TPEConfig):
            trials, self._bad = for_tpe(seen, space.epochs, objectives), [0.0] * len(objectives)
        else:
            trials, self._bad = as_complete(seen, objectives)
        if isinstance(self._config, NSGA2Config):
            trials = [_of_first_generation(trial) for trial in trials]
        self._known = sum(trial.state.is_finished() for trial in trials)
        self._last: Trial | None = None
        with quiet_optuna():
            self._study = optuna.create_study(directions=[one.direction for one in objectives])
            self._study.add_trials(trials)

    def ask(self, attempt: int) -> Suggestion:
        """Return a suggestion; an earlier one, if there is, was refused."""
        seed = seed_of(self._config.seed, self._number, attempt)
        with quiet_optuna():
            if self._last is not None:
                self._refuse(self._last)
            self._study.sampler = _sampler(self._config, seed)
            trial = self._last = self._study.ask()
            params: dict[str, Scalar] = {}
            for key, domain in self._space.config.search.items():
                if self._space.is_active(domain, params):
                    params[key] = _suggest_one(trial, key, domain)
            kept = self._study.get_trials(deepcopy=False)[-1]
        # Parameters are on record anyway; these hold inactive ones too, which a trial does not have.
        attrs = {key: value for key, value in kept.system_attrs.items() if ":relative_params:" not in key}
        return Suggestion(params, dict(kept.distributions), attempt, attrs)

    def _refuse(self, trial: Trial) -> None:
        """Take a suggestion back, and show it as failed where trials are looked at already."""
        self._study.tell(trial, state=TrialState.FAIL)
        if isinstance(self._config, NSGA2Config) or self._known < self._config.n_startup_trials:
            return
        complete = isinstance(self._config, GPConfig)
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                values=self._bad if complete else None,
                params=trial.params,
                distributions=trial.distributions,
                system_attrs={} if complete else {"constraints": [float(self._space.epochs + 1)]},
            )
        )


def check_options(config: SamplerConfig) -> None:
    """Check the further arguments of Optuna's sampler.

    Raises:
        InputError: there is no such argument, or the sampler refuses its value.
    """
    kinds: dict[str, type[BaseSampler]] = {"tpe": TPESampler, "gp": GPSampler, "nsga2": NSGAIISampler}
    fields = set(type(config).model_fields) - {"name", "options"}
    known: set[str] = set()
    if config.name in kinds:
        known = set(inspect.signature(kinds[config.name]).parameters) - _NOT_PLAIN - fields
    for option in config.options:
        if option in known:
            continue
        if option in fields:
            hint = f"it is a key of its own; write sampler.{option}"
        else:
            hint = f"{config.name} has no such option; {nearest(option, known | fields)}"
        raise InputError(f"sampler.options.{option}: {hint}")
    if isinstance(config, TPEConfig | GPConfig | NSGA2Config):
        with quiet_optuna():
            _sampler(config, 0)


def _sampler(config: TPEConfig | GPConfig | NSGA2Config, seed: int) -> BaseSampler:
    try:
        if isinstance(config, TPEConfig):
            extra: dict[str, Any] = dict(config.options)
            if not hasattr(Trial, "set_constraint"):
                # Before Optuna 5 the sampler looks at constraints only if it is given such a function.
                extra["constraints_func"] = lambda trial: ()
            return TPESampler(
                seed=seed,
                n_startup_trials=config.n_startup_trials,
                n_ei_candidates=config.n_ei_candidates,
                multivariate=config.multivariate,
                group=config.group and config.multivariate,
                constant_liar=config.constant_liar,
                **extra,
            )
        if isinstance(config, GPConfig):
            return GPSampler(
                seed=seed,
                n_startup_trials=config.n_startup_trials,
                deterministic_objective=config.deterministic_objective,
                **config.options,
            )
        crossover = _CROSSOVERS.get(config.crossover)
        return NSGAIISampler(
            seed=seed,
            population_size=config.population_size,
            crossover=None if crossover is None else crossover(),
            crossover_prob=config.crossover_prob,
            swapping_prob=config.swapping_prob,
            mutation_prob=config.mutation_prob,
            **config.options,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"sampler.options = {config.options}: {error}") from None


def _of_first_generation(trial: FrozenTrial) -> FrozenTrial:
    """Count a trial that nobody suggested, a prior, to the first generation, so that it can be a parent."""
    trial.system_attrs = {NSGAIISampler._get_generation_key(): 0, **trial.system_attrs}
    return trial


def _suggest_one(trial: Trial, key: str, domain: Domain) -> Scalar:
    if isinstance(domain, CategoricalDomain):
        return trial.suggest_categorical(key, domain.choices)
    if isinstance(domain, IntDomain):
        return trial.suggest_int(key, domain.low, domain.high, step=domain.step, log=domain.log)
    return trial.suggest_float(key, domain.low, domain.high, step=domain.step, log=domain.log)
