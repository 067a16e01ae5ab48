"""Everything one pretraining run is: the whole config, from which it can be run again."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from raysl import methods
from raysl.config import Config, folder_of, nearest
from raysl.data.config import DataConfig, ViewsConfig
from raysl.errors import InputError
from raysl.methods.base import MethodConfig
from raysl.models.backbones import BackboneConfig
from raysl.train.config_optimizer import OptimizerConfig, ScheduleConfig

__all__ = [
    "CheckpointConfig",
    "DiagnosticsConfig",
    "LaunchConfig",
    "OptimizerConfig",
    "Published",
    "RunConfig",
    "ScheduleConfig",
    "TrainConfig",
]


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

    channels_last: bool = False
    """Keep images and convolutions with their channels last, which is faster on GPUs of today."""

    compile: bool = False
    """Compile the backbone with torch.compile: a slow first step, faster ones after it."""

    accumulation: int = Field(1, ge=1)
    """In how many slices the backbone passes a batch, one after the other, to need less memory."""

    accumulation_loss: Literal["global", "micro"] = "global"
    """`global`: the loss stays that of the whole batch, and each slice's activations are computed a second
    time in the backward pass. `micro`: the mean of the losses of the slices, each a batch of its own; refused
    for a method whose loss would then be another."""

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
    """GPUs reserved for each worker, or the share of one; null: one when the cluster has GPUs."""

    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """Collective backend; `auto`: nccl on whole GPUs, gloo on CPUs and shares of a GPU."""

    max_failures: int = Field(3, ge=0)
    """How often a job whose worker died is started again from its last checkpoint."""

    start_timeout_s: float = Field(120.0, gt=0.0)
    """Longest wait for the workers to be placed, in seconds."""

    storage: str | None = None
    """Where Ray Train keeps its own notes: a path all nodes see, or a URI; null: inside the run directory."""


class Published(Config):
    """A number that the recipe's authors published, to compare with."""

    metric: str
    """The evaluation protocol and its metric, such as `linear-cached/top1`."""

    value: float = Field(ge=0.0, le=100.0)
    """What they report, in percent."""

    source: str = Field(min_length=1)
    """Where, and whether it has been confirmed."""

    @field_validator("metric")
    @classmethod
    def _names_both(cls, value: str) -> str:
        protocol, slash, metric = value.partition("/")
        if not (protocol and slash and metric) or "/" in metric:
            raise ValueError("expected PROTOCOL/METRIC, such as linear-cached/top1")
        return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | Published) else value


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

    published: Annotated[Literal["ours"] | tuple[Published, ...] | None, BeforeValidator(_listed)] = None
    """What the recipe's authors report, which `raysl evaluate` compares with; `ours`: the recipe is no
    paper's."""

    @field_validator("method", mode="before")
    @classmethod
    def _find_method(cls, value: Any, info: ValidationInfo) -> Any:
        """Choose the method's own config class by its name."""
        if isinstance(value, MethodConfig):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or "name" not in value:
            raise ValueError(f"expected a method with its name; {nearest('', methods.method_names())}")
        try:
            return methods.read_config(value, folder_of("method.name", info.context))
        except InputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _views_suit_the_method(self) -> RunConfig:
        least, most = self.method.views_taken()
        count = self.views.count
        if count < least or (most is not None and count > most):
            wanted = (
                f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
            )
            noun = "view" if most == 1 else "views"
            raise ValueError(f"method {self.method.name} takes {wanted} {noun}, but views gives {count}")
        return self

    @model_validator(mode="after")
    def _slices_suit_the_batch_and_the_method(self) -> RunConfig:
        train = self.train
        if train.batch_size % train.accumulation:
            raise ValueError(
                f"train.accumulation = {train.accumulation} does not divide train.batch_size = "
                f"{train.batch_size}; use a divisor"
            )
        micro = train.accumulation > 1 and train.accumulation_loss == "micro"
        if micro and self.method.micro_batch_loss is None:
            raise ValueError(
                f"train.accumulation_loss = micro: the mean over micro-batches is another loss than that of "
                f"the global batch, which is what {self.method.name} is defined on; use "
                "train.accumulation_loss=global"
            )
        return self

    @property
    def horizon(self) -> float:
        """Length of the schedules, in epochs."""
        return self.schedule.horizon if self.schedule.horizon is not None else float(self.train.epochs)

    def identity(self) -> dict[str, Any]:
        """Return what makes two configs the same run: everything that can change its result.

        Left out are the workers (losses are defined on the global batch), the feed (batches are the same),
        how many images may be unreadable (those that are read have a fingerprint, see `train.fingerprint`),
        what is kept of it, what others published, what changes rounding only, and how many of the horizon's
        epochs are run: a run may be continued on other machines and for longer on the same schedule.
        """
        values = self.to_dict()
        values["schedule"]["horizon"] = self.horizon
        del values["launch"], values["checkpoint"], values["published"]
        for name in ("feed", "memory_limit", "decode_labels", "max_bad"):
            del values["data"][name]
        for name in ("epochs", "device", "channels_last", "compile"):
            del values["train"][name]
        return values
