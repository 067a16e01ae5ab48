"""A sweep that has been checked and can start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raysl.config import nearest
from raysl.errors import InputError
from raysl.train.diagnostics import wants_knn
from raysl.train.pretrain import prepare
from raysl.train.session import TrainData
from raysl.tune.planning.check import check_stopping
from raysl.tune.samplers.suggest import warnings_for
from raysl.tune.spaces.domains import condition_of
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig

_TAGS = {"eval/knn_top1", "diag/rankme", "diag/embedding_std", "perf/images_per_s", "perf/data_wait"}
"""What every run measures; what a method reports of itself is under `train/`."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that has been checked and can start.

    Args:
        space: the search space with its recipes.
        data: decoded images of each form of its trials, the cheapest first.
        lines: what to tell the user before it starts.
    """

    space: Space
    data: list[TrainData]
    lines: list[str]

    def facts(self) -> dict[str, Any]:
        """Return the plan as plain values, for `--dry-run --json`."""
        return {
            "space": self.space.config.to_dict(),
            "base": self.space.base.to_dict(),
            "epochs": self.space.epochs,
        }


def plan_sweep(config: SpaceConfig) -> SweepPlan:
    """Check a sweep and load its data; nothing is started or written.

    Raises:
        InputError: the space, a recipe or the data cannot be used, the sampler cannot do it, or an objective
            cannot be measured.
    """
    space = Space(config)
    stopping = check_stopping(space)
    check_priors(space)
    warnings = warnings_for(space)
    data, lines = list[TrainData](), list[str]()
    for fidelity in range(space.last_fidelity + 1):
        base = space.base_of(fidelity)
        prepared = prepare(base)
        data.append(prepared.data)
        if fidelity < space.last_fidelity:
            lines.append(f"proxy {fidelity + 1} of {space.last_fidelity}, {base.train.epochs} epochs:")
        lines += prepared.lines
        check_objectives(config, wants_knn(base, prepared.data))
    goals = ", ".join(f"{one.direction} {one.metric}" for one in config.objective)
    lines += [
        f"{config.trials} trials of {space.epochs} epochs; {goals}; "
        f"{config.sampler.name} seed {config.sampler.seed}; stopping: {stopping}",
        *(f"search {key}: {describe_domain(space, key)}" for key in config.search),
        *(f"tied {key} = {text}" for key, text in config.tied.items()),
        *(f"warning: {line}" for line in warnings),
    ]
    return SweepPlan(space, data, lines)


def check_objectives(config: SpaceConfig, has_knn: bool) -> None:
    """Refuse an objective that no trial would measure.

    Args:
        config: the search space.
        has_knn: whether trials measure k-NN accuracy.

    Raises:
        InputError: no run measures it, or it is a k-NN accuracy and there is none.
    """
    for metric in [one.metric for one in config.objective]:
        if metric not in _TAGS and not metric.startswith("train/"):
            raise InputError(
                f"objective.metric = {metric!r}: expected a tag that runs measure: "
                f"{', '.join(sorted(_TAGS))}, or train/ and what the method reports; "
                f"{nearest(metric, _TAGS | {'train/loss'})}"
            )
        if metric == "eval/knn_top1" and not has_knn:
            raise InputError(
                f"objective.metric = {metric!r}: needs labels, held-out images and diagnostics.knn; "
                "choose diag/rankme without"
            )


def check_priors(space: Space) -> None:
    """Refuse priors that cannot be trials.

    Raises:
        InputError: one line per mistake.
    """
    mistakes = []
    for number in range(len(space.config.priors)):
        try:
            space.prior(number)
        except InputError as error:
            mistakes.append(str(error))
    if mistakes:
        raise InputError("\n".join(mistakes))


def describe_domain(space: Space, key: str) -> str:
    """Return a searched key's domain, and when it is searched, in a few words."""
    domain = space.config.search[key]
    return domain.describe() + (f" when {condition_of(domain)}" if domain.when else "")
