"""The optimizer and the schedules of its learning rate and weight decay, as a user may set them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from raysl.config import Config, Duration, in_steps


class OptimizerConfig(Config):
    """The optimizer and how its learning rate follows the batch size."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "sgd"
    """`sgd` (with momentum), `adam` (L2 in the gradient), `adamw` (decoupled decay) or `lars` (layer-wise
    rates)."""

    lr: float = Field(0.1, gt=0.0)
    """Peak learning rate, at `lr_reference_batch` images when it scales, else as it is."""

    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """How the peak follows the global batch: lr * (batch / reference), its square root, or not at all."""

    lr_reference_batch: int = Field(256, ge=1)
    """The batch size that `lr` is stated for."""

    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Momentum of `sgd` and `lars`."""

    nesterov: bool = False
    """Nesterov momentum for `sgd`."""

    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (
        0.9,
        0.999,
    )
    """Decay rates of the two moments of `adam` and `adamw`."""

    eps: float = Field(1e-8, gt=0.0)
    """Denominator offset of `adam` and `adamw`."""

    weight_decay: float = Field(0.0, ge=0.0)
    """L2 penalty (`sgd`, `adam`, `lars`) or decoupled decay (`adamw`)."""

    weight_decay_final: Annotated[float, Field(ge=0.0)] | None = None
    """What the weight decay moves to along half a cosine over the horizon; null: it stays."""

    decay_one_dimensional: bool = True
    """Whether biases and normalisation parameters decay too."""

    larc: Literal["clip"] | bool = False
    """Scale each tensor's gradient before `sgd`, by trust |p| / (|g| + decay |p|); `clip`: so that its own
    rate stays below the learning rate."""

    trust_coefficient: float = Field(0.001, gt=0.0, le=1.0)
    """Trust of `lars` and `larc`: the length of a step as a share of the tensor's own."""

    adapt_one_dimensional: bool = False
    """Whether `lars` and `larc` scale biases and normalisation parameters too."""

    @model_validator(mode="after")
    def _options_fit(self) -> OptimizerConfig:
        if self.larc and self.name != "sgd":
            raise ValueError(
                f"larc scales the gradients of sgd, not of {self.name}; use name=sgd or larc=false"
            )
        if self.nesterov and self.name != "sgd":
            raise ValueError(f"nesterov belongs to sgd, not to {self.name}; use nesterov=false")
        return self

    def peak_lr(self, batch_size: int) -> float:
        """Return the peak learning rate at a global batch size."""
        ratio = batch_size / self.lr_reference_batch
        return self.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.lr_scaling]


class ScheduleConfig(Config):
    """The learning rate over the horizon. Stopping early never shortens or compresses it."""

    name: Literal["cosine", "cosine_restarts", "step", "constant", "wsd"] = "cosine"
    """Shape after the warm-up. `wsd`: constant, with a short cooldown before each judged epoch and the end of
    the horizon, and back at the peak in between."""

    by: Literal["step", "epoch"] = "step"
    """`epoch`: after the warm-up the rate changes at the start of an epoch only, and `cosine` is laid over
    the whole horizon, whose beginning the warm-up replaces."""

    horizon: Annotated[float, Field(gt=0.0)] | None = None
    """Length the schedules (learning rate, EMA, ...) are laid over, in epochs; null: `train.epochs`."""

    warmup: Duration = 0
    """Length of the linear warm-up: epochs, `"5%"` of the horizon, or `"500 steps"`."""

    warmup_from: Literal["zero", "first_step"] = "first_step"
    """`zero`: 0 at the first step, the peak at the warm-up's last. `first_step`: peak * (k + 1) / warm-up.
    `cosine_restarts` always warms up from its floor, `final`."""

    final: float = Field(0.0, ge=0.0, le=1.0)
    """Where `cosine`, each cycle of `cosine_restarts` and each cooldown of `wsd` end, as a share of the
    peak."""

    final_at: Literal["horizon", "last_step"] = "horizon"
    """When `cosine` is there: `last_step`: in the horizon's last step; `horizon`: one step later."""

    cycle: Duration | None = None
    """Length of the first cycle of `cosine_restarts`, warm-up included; null: the horizon."""

    cycle_factor: float = Field(1.0, ge=1.0)
    """What the length of a cycle, without its warm-up, is multiplied by for the next."""

    cycle_decay: float = Field(1.0, gt=0.0, le=1.0)
    """What the peak of a cycle is multiplied by for the next."""

    milestones: tuple[Duration, ...] = ()
    """Where `step` drops: epochs, shares of the horizon, or negative epochs counted back from its end."""

    factor: float = Field(0.1, gt=0.0, lt=1.0)
    """What each milestone multiplies the learning rate by."""

    judged: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Epochs before whose end `wsd` cools down, beside the horizon's; a sweep gives those at which its
    stopping rule compares trials, where there are none."""

    cooldown: Duration = "10%"
    """Length of each cooldown of `wsd`: epochs, `"500 steps"`, or a share of the steps since the judged epoch
    before it; at most all of these that are not warm-up, and at least one step."""

    @field_validator("warmup")
    @classmethod
    def _warmup_begins_at_the_start(cls, value: Duration) -> Duration:
        if not isinstance(value, str) and value < 0:
            raise ValueError("a warm-up cannot be negative; only milestones count back from the end")
        return value

    @field_validator("judged")
    @classmethod
    def _in_order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(after <= before for before, after in pairwise(value)):
            raise ValueError("epochs go up, each once, such as [2, 6, 18]")
        return value

    @field_validator("cooldown")
    @classmethod
    def _cools_down(cls, value: Duration) -> Duration:
        if in_steps(value, steps_per_epoch=10**9, horizon_steps=10**9) <= 0 or str(value).startswith("-"):
            raise ValueError("a cooldown is longer than 0; for none use name=constant")
        return value

    @model_validator(mode="after")
    def _options_belong_to_the_shape(self) -> ScheduleConfig:
        if self.name == "step" and not self.milestones:
            raise ValueError("a step schedule needs milestones, such as [-50, -25]")
        if self.name != "step" and self.milestones:
            raise ValueError(f"milestones belong to a step schedule, not to {self.name}")
        restarts = self.name == "cosine_restarts"
        if not restarts and (self.cycle is not None or self.cycle_factor != 1.0 or self.cycle_decay != 1.0):
            raise ValueError(
                f"cycle, cycle_factor and cycle_decay belong to cosine_restarts, not to {self.name}"
            )
        if restarts and (self.by == "epoch" or self.warmup_from == "zero"):
            raise ValueError(
                "cosine_restarts goes by step and warms up from its floor; remove by and warmup_from"
            )
        if self.name != "wsd" and (self.judged or self.cooldown != "10%"):
            raise ValueError(f"judged and cooldown belong to wsd, not to {self.name}")
        if self.name == "wsd" and self.by == "epoch":
            raise ValueError("wsd goes by step, because a cooldown may be shorter than an epoch; remove by")
        if self.final_at == "last_step" and (self.name != "cosine" or self.by == "epoch"):
            raise ValueError("final_at=last_step belongs to a cosine schedule by step; use final_at=horizon")
        return self
