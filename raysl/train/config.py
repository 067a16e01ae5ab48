"""Everything one pretraining run is: the whole config, from which it can be run again."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from raysl import methods
from raysl.config import Config, Duration, nearest
from raysl.data.config import DataConfig, ViewsConfig
from raysl.errors import InputError
from raysl.methods.base import MethodConfig
from raysl.models.backbones import BackboneConfig


class OptimizerConfig(Config):
    """The optimizer and how its learning rate follows the batch size."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    """`sgd` (with momentum), `adam` (L2 in the gradient) or `adamw` (decoupled decay)."""

    lr: float = Field(0.1, gt=0.0)
    """Peak learning rate, at `lr_reference_batch` images when it scales, else as it is."""

    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """How the peak follows the global batch: lr * (batch / reference), its square root, or not at all."""

    lr_reference_batch: int = Field(256, ge=1)
    """The batch size that `lr` is stated for."""

    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Momentum of `sgd`."""

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
    """L2 penalty (`sgd`, `adam`) or decoupled decay (`adamw`)."""

    decay_one_dimensional: bool = True
    """Whether biases and normalisation parameters decay too."""

    def peak_lr(self, batch_size: int) -> float:
        """Return the peak learning rate at a global batch size."""
        ratio = batch_size / self.lr_reference_batch
        return self.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.lr_scaling]


class ScheduleConfig(Config):
    """The learning rate over the horizon. Stopping early never shortens or compresses it."""

    name: Literal["cosine", "step", "constant"] = "cosine"
    """Shape after the warm-up."""

    horizon: Annotated[float, Field(gt=0.0)] | None = None
    """Length the schedules (learning rate, EMA, ...) are laid over, in epochs; null: `train.epochs`."""

    warmup: Duration = 0
    """Length of the linear warm-up: epochs, `"5%"` of the horizon, or `"500 steps"`."""

    warmup_from: Literal["zero", "first_step"] = "first_step"
    """`zero`: 0 at the first step, the peak at the warm-up's last. `first_step`: peak * (k + 1) / warm-up."""

    final: float = Field(0.0, ge=0.0, le=1.0)
    """Where `cosine` ends, as a share of the peak."""

    milestones: tuple[Duration, ...] = ()
    """Where `step` drops: epochs, shares of the horizon, or negative epochs counted back from its end."""

    factor: float = Field(0.1, gt=0.0, lt=1.0)
    """What each milestone multiplies the learning rate by."""

    @field_validator("warmup")
    @classmethod
    def _warmup_begins_at_the_start(cls, value: Duration) -> Duration:
        if not isinstance(value, str) and value < 0:
            raise ValueError("a warm-up cannot be negative; only milestones count back from the end")
        return value

    @model_validator(mode="after")
    def _milestones_belong_to_step(self) -> ScheduleConfig:
        if self.name == "step" and not self.milestones:
            raise ValueError("a step schedule needs milestones, such as [-50, -25]")
        if self.name != "step" and self.milestones:
            raise ValueError(f"milestones belong to a step schedule, not to {self.name}")
        return self


class TrainConfig(Config):
    """How long, how much at once, from which seed, in which arithmetic."""

    epochs: int = Field(100, ge=1)
    """Epochs to run. The schedule's length is `schedule.horizon`."""

    batch_size: int = Field(256, ge=2)
    """Images in a global batch, over all workers."""

    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of weights, order, views and everything random in a step."""

    precision: Literal["float32", "bf16", "float64"] = "float32"
    """`bf16`: autocast around the networks, losses in float32. `float64` is for checking equality."""

    grad_clip: Annotated[float, Field(gt=0.0)] | None = None
    """Largest global gradient norm; no clipping when not given."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU when the process sees one."""


_EPOCHS = re.compile(r"^([0-9]+)(?:\s*epochs?)?$")
_MINUTES = re.compile(r"^([0-9]*\.?[0-9]+)\s*min(?:utes?)?$")


def _interval(every: Any) -> tuple[int | None, float | None]:
    text = str(every)
    if (epochs := _EPOCHS.match(text)) and int(epochs[1]) > 0:
        return int(epochs[1]), None
    if (minutes := _MINUTES.match(text)) and float(minutes[1]) > 0:
        return None, 60.0 * float(minutes[1])
    raise ValueError("expected epochs (1) or minutes ('10 min'), more than none")


def _every(value: Any) -> Any:
    _interval(value)
    return value


class CheckpointConfig(Config):
    """When checkpoints are written and which are kept."""

    every: Annotated[int | str, BeforeValidator(_every)] = 1
    """Epochs between checkpoints (1), or minutes (`"10 min"`; then also inside an epoch)."""

    keep: int = Field(2, ge=1)
    """How many of the latest are kept, beside the best."""

    best: str | None = "eval/knn_top1"
    """The metric whose best checkpoint is kept as well (higher is better); null keeps the latest only."""

    def interval(self) -> tuple[int | None, float | None]:
        """Return (epochs, None) or (None, seconds) between checkpoints."""
        return _interval(self.every)


class DiagnosticsConfig(Config):
    """What is measured beside the loss at the end of an epoch, on the selection split."""

    every: int = Field(1, ge=1)
    """Epochs between k-NN evaluations (the last epoch always has one)."""

    knn: bool | None = None
    """Online k-NN accuracy: null measures it where labels exist, true insists on it, false leaves it out."""

    knn_k: int = Field(5, ge=1)
    """Neighbours that vote."""

    knn_bank: int = Field(5000, ge=1)
    """Most training images used as neighbours (the same ones in every epoch)."""

    collapse: bool = True
    """End the run when the embeddings have collapsed."""

    images: bool = True
    """Write a grid of images and their views to TensorBoard at the start."""


class LaunchConfig(Config):
    """How many workers run it and where. None of this changes the result."""

    workers: int = Field(1, ge=1)
    """Processes in the job. One runs in this process; more go through Ray Train."""

    cpus_per_worker: float = Field(1, gt=0.0)
    """CPUs reserved for each worker, and threads it computes with."""

    gpus_per_worker: float | None = Field(None, ge=0.0)
    """GPUs reserved for each worker; null: one when the cluster has GPUs."""

    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """Collective backend; `auto`: nccl on GPUs, gloo on CPUs."""

    max_failures: int = Field(3, ge=0)
    """How often a job whose worker died is started again from its last checkpoint."""

    start_timeout_s: float = Field(120.0, gt=0.0)
    """Longest wait for the workers to be placed, in seconds."""

    storage: str | None = None
    """Where Ray Train keeps its own notes: a path all nodes see, or a URI; null: inside the run directory."""


class RunConfig(Config):
    """One pretraining run, whole."""

    data: DataConfig = Field(default_factory=DataConfig)
    """Images, labels and splits."""

    views: ViewsConfig = Field(default_factory=ViewsConfig)
    """Augmentation."""

    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    """The encoder that is trained, judged and exported."""

    method: SerializeAsAny[MethodConfig]
    """The self-supervised method, by name, with its hyperparameters."""

    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    """Optimizer."""

    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    """Learning rate over the horizon."""

    train: TrainConfig = Field(default_factory=TrainConfig)
    """Length, batch, seed, precision."""

    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    """Checkpoints."""

    diagnostics: DiagnosticsConfig = Field(default_factory=DiagnosticsConfig)
    """Measurements during training."""

    launch: LaunchConfig = Field(default_factory=LaunchConfig)
    """Workers."""

    @field_validator("method", mode="before")
    @classmethod
    def _find_method(cls, value: Any) -> Any:
        """Choose the method's own config class by its name."""
        if isinstance(value, MethodConfig):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or "name" not in value:
            raise ValueError(f"expected a method with its name; {nearest('', methods.method_names())}")
        try:
            found = methods.config_class(value["name"])
        except InputError as error:
            raise ValueError(str(error)) from None
        return found.model_validate(value)

    @model_validator(mode="after")
    def _views_suit_the_method(self) -> RunConfig:
        least, most = self.method.views_required
        count = self.views.count
        if count < least or (most is not None and count > most):
            wanted = (
                f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
            )
            raise ValueError(f"method {self.method.name} takes {wanted} views, but views gives {count}")
        return self

    @property
    def horizon(self) -> float:
        """Length of the schedules, in epochs."""
        return self.schedule.horizon if self.schedule.horizon is not None else float(self.train.epochs)

    def identity(self) -> dict[str, Any]:
        """Return what makes two configs the same run: everything that can change its result.

        Left out are the workers (losses are defined on the global batch), what is kept of it, and how many of
        the horizon's epochs are run: a run may be continued on other machines and for longer on the same
        schedule.
        """
        values = self.to_dict()
        values["schedule"]["horizon"] = self.horizon
        del values["launch"], values["checkpoint"], values["train"]["epochs"], values["train"]["device"]
        return values
