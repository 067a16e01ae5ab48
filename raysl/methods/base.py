"""What a method is: a config, a module from views to a loss, and what it does after an optimizer step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

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


_LEAST_MOMENTUM = 0.5
"""Below it the scaling rule is not relied on: within a teacher's memory the student must move little."""

Label = Literal["transferred", "rescaled", "unsafe"]


@dataclass(frozen=True)
class Change:
    """What scaling a run does to one of its values.

    Args:
        key: dotted key of the value in the run's config, or what a derived value is called.
        old: before.
        new: after; the same as `old` where it is kept.
        label: `transferred` (it may stay), `rescaled` (a rule with a reason), or `unsafe` (no rule is known,
            or the value does not fit: look at it before a long run).
        why: the reason, one sentence without a full stop.
        derived: it follows from others and is not a key of the config.
    """

    key: str
    old: Any
    new: Any
    label: Label
    why: str
    derived: bool = False


@dataclass(frozen=True)
class Scaling:
    """What differs between a run and its larger copy: each a pair of before and after.

    Args:
        batch_size: images in a global batch.
        horizon_steps: optimizer steps in the schedules' horizon.
        image_size: side of a view in pixels.
        epochs: the horizon in epochs.
    """

    batch_size: tuple[int, int]
    horizon_steps: tuple[int, int]
    image_size: tuple[int, int]
    epochs: tuple[float, float] = (1.0, 1.0)


class MethodConfig(Config):
    """Fields every method has; each method's own `Config` adds its hyperparameters."""

    name: str
    """The method, by the name of its file."""

    views_required: ClassVar[tuple[int, int | None]] = (2, 2)
    """The least and the most views a step takes (None: any number)."""

    plain_views: ClassVar[int] = 0
    """Un-augmented views that come before these, as `forward` takes them: 0 or 1."""

    micro_batch_loss: ClassVar[str | None] = None
    """What the mean of the losses of several micro-batches means (`train.accumulation_loss: micro`), in a
    sentence; None: it is another loss than that of the global batch, and is refused."""

    bf16_tolerance: ClassVar[float] = 0.02
    """Relative difference of the loss that bf16 autocast of the networks may make; `raysl verify` checks."""

    def views_taken(self) -> tuple[int, int | None]:
        """Return `views_required`, unless it hangs on the fields."""
        return self.views_required

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Say what becomes of the method's own values in a larger run; a value not named is transferred.

        The momentum of a teacher that is given directly follows the number of steps; a method with values
        that hang on the batch overrides this and adds its own.

        Args:
            scaling: what differs.
        """
        momentum = getattr(self, "momentum", None)
        before, after = scaling.horizon_steps
        if not isinstance(momentum, float) or before == after:
            return []
        new = scaled_momentum(momentum, before, after)
        if new == momentum:
            return []
        # Only the ratio of the steps is known where images cannot be counted.
        why = f"momentum ** {before / after:.4g}, the same decay over the horizon (arXiv 2307.13813)"
        if new >= _LEAST_MOMENTUM:
            return [Change("method.momentum", momentum, new, "rescaled", why)]
        why += "; a teacher as quick as this is nearly the student"
        return [Change("method.momentum", momentum, new, "unsafe", why)]


@dataclass(frozen=True)
class Pixels:
    """How the pixels that a method sees were made: (value / 255 - mean) / std.

    Args:
        mean: of each channel.
        std: of each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """What a method may depend on beside its config. All are of the whole job, whatever its workers.

    Args:
        batch_size: images in a global batch.
        steps_per_epoch: optimizer steps in an epoch.
        horizon_steps: optimizer steps in the schedule's horizon.
        pixels: how the views were normalised; None where nothing was.
        image_size: (height, width) of the first view; None where it is not known.
    """

    batch_size: int
    steps_per_epoch: int
    horizon_steps: int
    pixels: Pixels | None = None
    image_size: tuple[int, int] | None = None

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
        micro: which of the step's micro-batches this is (`train.accumulation_loss: micro`).
    """

    index: int
    plan: Plan
    seed: int
    micro: int = 0

    @property
    def progress(self) -> float:
        """Share of the horizon done, in [0, 1]."""
        return min(1.0, self.index / max(1, self.plan.horizon_steps))

    @property
    def starts_epoch(self) -> bool:
        """Whether it is the first of an epoch, in which diagnostics that cost something are taken."""
        return self.index % self.plan.steps_per_epoch == 0

    def generator(self) -> torch.Generator:
        """Return a CPU generator that is the same on every worker: of seed, step and micro-batch only."""
        mixed = self.seed * 0x9E3779B1 + self.index + self.micro * 0xC2B2AE3D27D4EB4F
        return torch.Generator().manual_seed(mixed % 2**63)


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
            views: this worker's rows of each view, (N_local, C, H, W); the config's `plain_views` come first.
            step: where training stands.
        """

    def before_step(self, step: Step) -> dict[str, float]:
        """Do what precedes the forward pass of a step; return scalars to log. Nothing by default."""
        return {}

    def after_step(self, step: Step) -> dict[str, float]:
        """Do what follows an optimizer step (an EMA, say); return scalars to log. Nothing by default."""
        return {}

    def fixed_lr_modules(self) -> list[nn.Module]:
        """Return the modules whose learning rate stays at its peak (SimSiam's predictor). None by default."""
        return []

    def describe(self) -> list[str]:
        """Return the resolved numbers of the method's own schedules, a line each, printed at the start."""
        return []


def cosine_momentum(base: float, progress: float) -> float:
    """EMA momentum rising from `base` to 1 along half a cosine.

    m(t) = 1 - (1 - base) (1 + cos(pi t)) / 2, with t in [0, 1] the share of the horizon done.

    Source: BYOL (arXiv 2006.07733), section 3.2; used unchanged by MEC and Matrix-SSL.
    """
    return 1.0 - (1.0 - base) * (1.0 + math.cos(math.pi * progress)) / 2.0


def kept_weight(key: str, value: float, scaling: Scaling, noise: str) -> list[Change]:
    """Return what becomes of the weight of an estimate that chance makes too large in a small batch.

    Args:
        key: dotted key of the weight.
        value: it.
        scaling: what differs.
        noise: what falls as 1 / batch, a clause.
    """
    before, after = scaling.batch_size
    if before == after:
        return []
    label: Label = "transferred" if after > before else "unsafe"
    return [Change(key, value, value, label, f"{noise} falls as 1 / batch")]


def scaled_momentum(momentum: float, steps: int, new_steps: int) -> float:
    """Return the EMA momentum that decays as much over `new_steps` as `momentum` does over `steps`.

    m' = m^(steps / new_steps). Source: Busbridge et al. 2023 (arXiv 2307.13813), the EMA scaling rule.
    """
    return float(momentum ** (steps / new_steps))


def resolve_momentum(momentum: Momentum, plan: Plan) -> float:
    """Return an EMA momentum given directly (0.996) or by its time constant (`"1%"`, `"200 steps"`).

    A time constant of n steps is the momentum 1 - 1/n.
    """
    if isinstance(momentum, str):
        return 1.0 - 1.0 / max(1, plan.steps(momentum))
    return momentum
