"""What a method is run on to verify it: the config of its digits recipe, and generated images.

The recipe's own numbers (batch, whitening size, heads, optimizer) are kept, and the session that runs it is
the one that trains, so that what is verified is what runs. Images are generated: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from raysl import methods
from raysl.config import load
from raysl.config.load import Source
from raysl.config.package import RECIPES
from raysl.data.decoded import Decoded
from raysl.errors import RayslError
from raysl.train.config import RunConfig
from raysl.train.session import Session, TrainData

Precision = Literal["float32", "bf16", "float64"]

_SIDE = 8
_BATCHES = 3
"""Global batches in an epoch, fewer than the steps that are taken: the second epoch begins among them."""
_SEED = 20
# Clipping would hide a gradient of the wrong size; a warm-up would keep the weights where they are.
_CHANGED: dict[str, Any] = {
    "train": {"grad_clip": None, "device": "auto"},
    "schedule": {"warmup": 0},
    "launch": {"workers": 1},
}
_PLAIN: dict[str, Any] = {
    "data": {"source": "digits"},
    "views": {"preset": "digits"},
    "backbone": {"name": "small_cnn"},
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "train": {"batch_size": 128},
}
"""The run of a method that has no digits recipe."""


def sample_config(method: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the config that a method is verified with.

    Args:
        method: its name, or where a method of one's own is.
        overrides: `key=value` strings, such as `method.w_size=32`.

    Raises:
        InputError: no such method, or values it cannot take.
    """
    recipe = _recipe(method)
    sources: list[Source] = [recipe, _CHANGED] if recipe else [_PLAIN, _CHANGED, _of(method)]
    return load(RunConfig, sources, overrides)


def _of(method: str) -> dict[str, Any]:
    """Return what a method without a recipe adds: itself, and as many views as it takes at least."""
    return {
        "method": {"name": method},
        "views": {"count": methods.config_class(method).views_required[0]},
    }


def run_of(method: str, config: RunConfig) -> str:
    """Say in a few words what run that is."""
    recipe, batch = _recipe(method), config.train.batch_size
    told = f"recipe {recipe}" if recipe else f"{config.backbone.name}, {config.optimizer.name}"
    return f"{told}, global batch {batch}, {_BATCHES * batch} generated images of {_SIDE}x{_SIDE}"


def _recipe(method: str) -> str | None:
    name = f"digits/{method}"
    return name if name in RECIPES.names() else None


def with_precision(config: RunConfig, precision: Precision) -> RunConfig:
    """Return the same run in another precision."""
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def sample_images(batch_size: int) -> TrainData:
    """Return generated images: smooth random shapes with some noise, three batches of them."""
    generator = torch.Generator().manual_seed(_SEED)
    count = _BATCHES * batch_size
    coarse = torch.rand(count, 1, 3, 3, generator=generator)
    shapes = torch.nn.functional.interpolate(coarse, size=_SIDE, mode="bilinear", align_corners=True)
    noise = torch.rand(count, 1, _SIDE, _SIDE, generator=generator)
    images = (230.0 * shapes + 25.0 * noise).to(torch.uint8).numpy()
    decoded = Decoded(images, None, np.arange(count, dtype=np.uint64))
    return TrainData(decoded, decoded.rows(np.arange(0)))


@dataclass(frozen=True)
class Taken:
    """Some steps of a run, taken.

    Args:
        losses: the loss of each step.
        gradients: those of the first step, by parameter, in float64.
        state: every parameter and buffer after the last step, in float64.
    """

    losses: list[float]
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]


def take_steps(config: RunConfig, data: TrainData, device: torch.device, steps: int) -> Taken:
    """Take the first steps of a run.

    Raises:
        RayslError: a parameter that takes a gradient gets none, with which several workers cannot train.
    """
    session = Session(config, data, device)
    losses: list[float] = []
    gradients: dict[str, Tensor] = {}
    for index in range(steps):
        epoch, step = divmod(index, session.plan.steps_per_epoch)
        batch = next(session.feed.epoch(epoch, start_step=step))
        report, _ = session.step(batch, index)
        losses.append(float(report.loss.detach()))
        if index == 0:
            gradients = _gradients(session)
    state = {name: tensor.cpu().double() for name, tensor in session.method.state_dict().items()}
    return Taken(losses, gradients, state)


def _gradients(session: Session) -> dict[str, Tensor]:
    learned = {name: p for name, p in session.method.named_parameters() if p.requires_grad}
    if missing := [name for name, parameter in learned.items() if parameter.grad is None]:
        raise RayslError(
            f"no gradient for {', '.join(missing)}: every parameter has to get one in every step, or have "
            "requires_grad = False"
        )
    return {name: p.grad.detach().cpu().double().clone() for name, p in learned.items() if p.grad is not None}
