"""What a method is: a config, a module from views to a loss, and what it does after an optimizer step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn

from raysl.config import Config, Duration, in_steps
from raysl.config.duration import is_relative
from raysl.models.backbones import Backbone


def _check_momentum(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (number and 0.0 <= value <= 1.0) or (isinstance(value, str) and is_relative(value)):
        return value
    raise ValueError(
        "expected a momentum from 0 to 1, or its time constant as '1%' of the horizon or '200 steps'"
    )


Momentum = Annotated[float | str, BeforeValidator(_check_momentum)]
"""EMA momentum: a number in [0, 1], or its time constant as `"1%"` of the horizon or `"200 steps"`."""


class MethodConfig(Config):
    """Fields every method has; each method's own `Config` adds its hyperparameters."""

    name: str
    """The method, by the name of its file."""

    views_required: ClassVar[tuple[int, int | None]] = (2, 2)
    """The least and the most views a step takes (None: any number)."""


@dataclass(frozen=True)
class Plan:
    """The lengths a schedule may depend on. All are of the whole job, whatever the number of workers.

    Args:
        batch_size: images in a global batch.
        steps_per_epoch: optimizer steps in an epoch.
        horizon_steps: optimizer steps in the schedule's horizon.
    """

    batch_size: int
    steps_per_epoch: int
    horizon_steps: int

    def steps(self, duration: Duration) -> int:
        """Resolve a duration (epochs, `"5%"` or `"500 steps"`) to optimizer steps."""
        return in_steps(duration, steps_per_epoch=self.steps_per_epoch, horizon_steps=self.horizon_steps)


@dataclass(frozen=True)
class Step:
    """Where training stands in one forward pass.

    Args:
        index: optimizer steps taken before this one.
        plan: the job's lengths.
        seed: the run's seed.
    """

    index: int
    plan: Plan
    seed: int

    @property
    def progress(self) -> float:
        """Share of the horizon done, in [0, 1]."""
        return min(1.0, self.index / max(1, self.plan.horizon_steps))

    def generator(self) -> torch.Generator:
        """Return a CPU generator that is the same on every worker and depends on seed and step only."""
        return torch.Generator().manual_seed((self.seed * 0x9E3779B1 + self.index) % 2**63)


@dataclass(frozen=True)
class LossReport:
    """What a forward pass yields.

    Args:
        loss: scalar, on the global batch.
        parts: scalars to log by name; their tags become `train/<name>`.
        embeddings: (N, D) of the global batch, detached; what collapse is watched on.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    embeddings: Tensor


class Method(nn.Module, ABC):
    """A self-supervised method: `forward(views, step)` returns the loss of a global batch.

    Attributes:
        backbone: the student's backbone, which is what gets judged and exported.
    """

    backbone: Backbone

    @abstractmethod
    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of the global batch.

        Args:
            views: this worker's rows of each view, (N_local, C, H, W).
            step: where training stands.
        """

    def after_step(self, step: Step) -> dict[str, float]:
        """Do what follows an optimizer step (an EMA, say); return scalars to log. Nothing by default."""
        return {}

    def describe(self) -> list[str]:
        """Return the resolved numbers of the method's own schedules, a line each, printed at the start."""
        return []


def cosine_momentum(base: float, progress: float) -> float:
    """EMA momentum rising from `base` to 1 along half a cosine.

    m(t) = 1 - (1 - base) (1 + cos(pi t)) / 2, with t in [0, 1] the share of the horizon done.

    Source: BYOL (arXiv 2006.07733), section 3.2; used unchanged by MEC and Matrix-SSL.
    """
    return 1.0 - (1.0 - base) * (1.0 + math.cos(math.pi * progress)) / 2.0


def resolve_momentum(momentum: Momentum, plan: Plan) -> float:
    """Return an EMA momentum given directly (0.996) or by its time constant (`"1%"`, `"200 steps"`).

    A time constant of n steps is the momentum 1 - 1/n.
    """
    if isinstance(momentum, str):
        return 1.0 - 1.0 / max(1, plan.steps(momentum))
    return momentum
