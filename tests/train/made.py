"""Runs that take a second: a few digits, a narrow network, a handful of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysl.config import build, merge
from raysl.data.decoded import Decoded
from raysl.data.sources import load_training
from raysl.train import checkpoint
from raysl.train.config import RunConfig
from raysl.train.context import Context, Report
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from raysl.train.session import TrainData

METHODS: dict[str, dict[str, Any]] = {
    "matrix_ssl": {
        "name": "matrix_ssl",
        "momentum": 0.9,
        "projector": {"layers": 2, "width": 32, "out": 16, "last_bn": "plain"},
        "predictor": {"layers": 2, "width": 32},
    },
    "simclr": {"name": "simclr", "projector": {"layers": 2, "width": 32, "out": 16, "last_bn": "affine"}},
}

# Only whole pixels move and only elements are scaled, so the views are the same bits on any machine.
EXACT_VIEWS = {"preset": "none", "shift": {"pixels": 1}, "flip": {"p": 0.5}}

NOT_RESULTS = ("perf/", "time/")


def config(*overrides: str, method: str = "matrix_ssl", views: Mapping[str, Any] | None = None) -> RunConfig:
    """Return a small config: 4 steps per epoch on `digits()`, 3 epochs."""
    values = {
        "data": {"source": "digits"},
        "views": {"preset": "digits"} if views is None else dict(views),
        "backbone": {"name": "small_cnn", "width": 4},
        "method": METHODS[method],
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 3, "batch_size": 32, "device": "cpu"},
        "diagnostics": {"knn_bank": 100, "images": False},
    }
    return build(RunConfig, *merge([values], overrides))


@cache
def _digits() -> tuple[Decoded, Decoded]:
    from raysl.data.config import DataConfig

    return load_training(DataConfig())


def digits(images: int = 140, held_out: int = 40, *, labels: bool = True) -> TrainData:
    """Return the first digits as (train, selection)."""
    train, selection = _digits()
    parts = train.rows(np.arange(images)), selection.rows(np.arange(held_out))
    return TrainData(*parts) if labels else TrainData(*(unlabelled(part) for part in parts))


def unlabelled(data: Decoded) -> Decoded:
    return Decoded(data.images, None, data.ids)


def train(
    run_config: RunConfig,
    path: Path,
    data: TrainData | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Report]:
    """Run, or continue, the loop in this process to its end."""
    torch.set_num_threads(1)
    run = RunDirectory(path)
    run.prepare(run_config)
    return list(epochs(run_config, Context(run, data or digits(), stop=stop)))


def weights(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a run's last checkpoint, the optimizer's too."""
    found = checkpoint.latest(RunDirectory(path).checkpoints)
    assert found is not None
    state = checkpoint.load(found)
    return {**state.model, **{f"optimizer.{name}": tensor for name, tensor in state.optimizer.items()}}


def results(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Return a run's recorded reports without what depends on the clock."""
    return [
        (row["epoch"], {tag: v for tag, v in row["metrics"].items() if not tag.startswith(NOT_RESULTS)})
        for row in RunDirectory(path).metrics()
    ]


def assert_same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


class StopAfter:
    """Asks for a stop at its n-th question."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0
