"""What the training loop is given and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from raysl.train.rundir import RunDirectory
from raysl.train.session import TrainData


@dataclass(frozen=True)
class Report:
    """The end of an epoch.

    Args:
        epoch: completed epochs, from 1.
        metrics: scalars by tag (`train/loss`, `eval/knn_top1`, `diag/rankme`, `perf/images_per_s`, ...).
    """

    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class StepNews:
    """How far an epoch is, for a progress bar.

    Args:
        epoch: the epoch under way, from 1.
        step: steps done in it.
        steps: steps it has.
        loss: the loss of the last step that was looked at.
        images_per_s: images of the global batch per second since the epoch began.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_s: float


@dataclass(frozen=True)
class Context:
    """Where and for whom a worker trains.

    Args:
        run: the run directory; only the first worker writes to it.
        data: decoded images.
        device: where this worker computes.
        fence: the attempt's number; the first worker takes the next one when not given.
        stop: asked at every step; yes on any worker makes all save and raise `Interrupted`.
        on_step: told after every step on the first worker.
    """

    run: RunDirectory
    data: TrainData
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    fence: int | None = None
    stop: Callable[[], bool] = lambda: False
    on_step: Callable[[StepNews], None] | None = None
