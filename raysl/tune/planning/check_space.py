"""`raysl sweep check`: everything that is wrong with a space, found without data and without a Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysl.errors import InputError
from raysl.train.accumulation import check_accumulation
from raysl.train.config import RunConfig
from raysl.tune.planning.check import check_stopping
from raysl.tune.planning.draft import Draft, draft
from raysl.tune.planning.extent import DRAWS, Draws, draw, epochs_of, size_of
from raysl.tune.planning.plan import check_objectives, check_priors, describe_domain
from raysl.tune.samplers.suggest import warnings_for
from raysl.tune.spaces.domains import condition_of
from raysl.tune.spaces.resolve import Space
from raysl.tune.trials.gang import Gang, Node

_FEW = 0.1
"""Share of random draws below which a space is searched badly."""


@dataclass(frozen=True)
class SpaceCheck:
    """What a check found.

    Args:
        name: the space, as it was given.
        mistakes: a line each; where there are any, the rest is empty.
        warnings: what works, but not as one may think.
        keys: the searched keys and their domains.
        tied: the keys that follow from others, and how.
        constraints: what must hold.
        priors: parameters of the configurations that run first.
        configurations: how many there are, constraints aside; None where there is no end.
        combinations: of the keys that are not continuous.
        continuous: continuous keys.
        accepted: share of random draws that meet the constraints.
        epochs: of a searched trial that is not stopped.
        epochs_worst: of the whole sweep, where nobody is stopped.
        epochs_typical: of the whole sweep, about, under its stopping rule.
        placement: how many trials run at a time, and on what.
        lines: all this for people.
    """

    name: str
    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    keys: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    priors: tuple[dict[str, Any], ...] = ()
    configurations: int | None = None
    combinations: int = 0
    continuous: int = 0
    accepted: float = 0.0
    epochs: int = 0
    epochs_worst: int = 0
    epochs_typical: int = 0
    placement: str = ""
    lines: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return it for people."""
        if self.mistakes:
            count = f"{len(self.mistakes)} mistake{'s' if len(self.mistakes) > 1 else ''}"
            return "\n".join([f"{self.name}: {count}", *(f"  {line}" for line in self.mistakes)])
        return "\n".join([*self.lines, *(f"warning: {line}" for line in self.warnings)])


def check_space(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str], nodes: Sequence[Node]
) -> SpaceCheck:
    """Check a space against the config models; nothing is read but it and its recipes.

    Args:
        source: name, path or value of a space.
        overrides: `key=value` strings.
        nodes: resources of each node that the sweep may use.

    Raises:
        InputError: there is no such file, or it is no YAML mapping.
    """
    name = "the space" if isinstance(source, Mapping) else str(source)
    found = draft(source, overrides)
    space = found.space
    if space is None:
        return SpaceCheck(name, tuple(found.mistakes))
    draws, placement, warnings = draw(space), "", list[str]()
    for about, check in _checks(space, draws):
        if not found.parts & about:
            _try(found, check)
    try:
        placement = _placement(space, nodes)
        if "sampler" not in found.parts:
            warnings = warnings_for(space)
    except InputError as error:
        found.note(str(error))
    if found.mistakes:
        return SpaceCheck(name, tuple(found.mistakes))
    return _sound(name, space, draws, placement, [*warnings, *_warnings(space, draws, nodes)])


def _checks(space: Space, draws: Draws) -> Iterator[tuple[set[str], Callable[[], object]]]:
    """Yield checks that do not need each other, with the parts of the file that each is about."""
    yield {"stopping", "epochs", "proxy", "objective", "stop_on"}, lambda: check_stopping(space)
    yield set(), lambda: check_priors(space)
    has_knn = space.base.diagnostics.knn is not False and space.base.data.selection.fraction > 0
    for one in space.config.objective:
        alone = space.config.model_copy(update={"objective": (one,)})
        yield {"objective"}, lambda alone=alone: check_objectives(alone, has_knn)  # type: ignore[misc]
    yield set(), lambda: _check_draws(draws)
    yield {"launch"}, lambda: _check_batches(space)


def _try(found: Draft, check: Callable[[], object]) -> None:
    try:
        check()
    except InputError as error:
        found.note(str(error))


def _check_draws(draws: Draws) -> None:
    """Refuse constraints that nothing meets, and expressions that cannot be computed everywhere."""
    if draws.accepted > 0.0:
        failing = [why for why in draws.refusals if why.startswith(("constraint ", "tied."))]
        if failing:
            told = (f"{why} (of {DRAWS} random configurations, in {draws.refusals[why]})" for why in failing)
            raise InputError("\n".join(told))
        return
    why, count = next(iter(draws.refusals.items()))
    total = sum(draws.refusals.values())
    raise InputError(
        f"constraints: none of {total} random configurations can be a trial; {count} of them: {why}; "
        "widen the domains, loosen the constraints, or tie the keys"
    )


def _check_batches(space: Space) -> None:
    """Refuse batches that do not divide among the workers, the recipe's and the searched ones."""
    domain = space.config.search.get("train.batch_size")
    sizes = [space.base.train.batch_size] if domain is None else domain.ends()
    told = list[str]()
    for size in sizes:
        train = space.base.train.model_copy(update={"batch_size": size})
        config: RunConfig = space.base.model_copy(update={"train": train})
        workers = config.launch.workers
        if isinstance(size, int) and size % workers:
            told.append(f"train.batch_size = {size}: does not divide among launch.workers = {workers}")
            continue
        try:
            check_accumulation(config, workers)
        except InputError as error:
            told.append(str(error))
    if told:
        raise InputError("\n".join(told))


def _placement(space: Space, nodes: Sequence[Node]) -> str:
    """Return how many trials run at a time and where.

    Raises:
        InputError: not even one can.
    """
    gang = Gang.of(space.base, nodes)
    slots = min(gang.slots(nodes), space.config.concurrent or space.config.trials, space.config.trials)
    return gang.describe(slots)


def _warnings(space: Space, draws: Draws, nodes: Sequence[Node]) -> Iterator[str]:
    config, stopping = space.config, space.config.stopping
    if 0.0 < draws.accepted < _FEW:
        why = next(iter(draws.refusals))
        yield (
            f"only {draws.accepted:.1%} of random configurations can be trials (most: {why}); "
            "tie the keys in place of constraining them"
        )
    for key in draws.unused:
        when = condition_of(config.search[key])
        yield f"search.{key}: none of {DRAWS} random configurations has it; it is searched when {when}"
    if stopping.rule in ("median", "percentile") and config.trials <= stopping.min_trials:
        yield (
            f"stopping: nobody is stopped before {stopping.min_trials + 1} trials, and there are "
            f"{config.trials}; raise trials, or lower stopping.min_trials"
        )
    if stopping.rule in ("successive_halving", "hyperband") and config.trials < stopping.reduction_factor:
        yield (
            f"stopping: nobody is stopped before {stopping.reduction_factor} trials, and there are "
            f"{config.trials}; raise trials"
        )
    gang = Gang.of(space.base, nodes)
    if not gang.gpus and config.budget.gpu_hours is not None:
        yield "budget.gpu_hours: trials use no GPU, so this limit is never reached"
    if not gang.gpus and config.budget.money is not None and not config.prices.cpu_hour:
        yield "budget.money: trials use no GPU and prices.cpu_hour is 0, so this limit is never reached"
    slots = gang.slots(nodes)
    if config.concurrent is not None and config.concurrent > slots:
        held = "fewer" if not config.deterministic else "fewer (the order of trials stays as it is)"
        yield f"concurrent = {config.concurrent}: only {slots} fit here at a time; {held} run"
    epochs = epochs_of(space)
    if config.budget.epochs is not None and config.budget.epochs < epochs.typical:
        yield (
            f"budget.epochs = {config.budget.epochs}: ends the sweep before its {config.trials} trials, "
            f"which take about {epochs.typical}"
        )


def _sound(name: str, space: Space, draws: Draws, placement: str, warnings: Sequence[str]) -> SpaceCheck:
    config, size, epochs = space.config, size_of(space), epochs_of(space)
    priors = [space.prior(number) for number in range(len(config.priors))]
    keys = {key: describe_domain(space, key) for key in config.search}
    goals = ", ".join(f"{one.direction} {one.metric}" for one in config.objective)
    each = f"{space.epochs} epochs each" + (" of the first proxy" if config.proxy else "")
    lines = [
        f"{name}: sound; {goals}; from {', '.join(config.base)}",
        *(f"search {key}: {domain}" for key, domain in keys.items()),
        *(f"tied {key} = {text}" for key, text in config.tied.items()),
        *(f"constraint {text}" for text in config.constraints),
        *(
            f"prior {number}: {', '.join(f'{key} = {value}' for key, value in prior.items())}"
            for number, prior in enumerate(priors)
        ),
        f"configurations: {size.describe()}"
        + ("" if draws.accepted == 1.0 else f"; {draws.accepted:.0%} of random ones can be trials"),
        f"sampler: {config.sampler.name}; stopping: {check_stopping(space)}",
        f"{config.trials} trials of {each}: {epochs.worst} epochs at most, repeats and promotions included"
        + (f", about {epochs.typical} with this stopping" if epochs.typical < epochs.worst else ""),
        f"placement: {placement}",
    ]
    return SpaceCheck(
        name=name,
        warnings=tuple(warnings),
        keys=keys,
        tied=dict(config.tied),
        constraints=config.constraints,
        priors=tuple(priors),
        configurations=None if size.configurations == math.inf else size.combinations,
        combinations=size.combinations,
        continuous=size.continuous,
        accepted=draws.accepted,
        epochs=space.epochs,
        epochs_worst=epochs.worst,
        epochs_typical=epochs.typical,
        placement=placement,
        lines=tuple(lines),
    )
