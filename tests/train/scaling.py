"""A small run, and what becomes of it."""

from __future__ import annotations

from typing import Any

from raysl.config import load
from raysl.methods.base import Change
from raysl.train.config import RunConfig
from raysl.train.scale import ScaleRequest, scale

COUNTS = (12800, 12800)


def small(*overrides: str) -> RunConfig:
    """Return 100 epochs of SGD with a teacher, batch 64."""
    values: dict[str, Any] = {
        "data": {"source": "data/small", "image_size": 32},
        "views": {"preset": "w_mse"},
        "backbone": {"name": "resnet18", "stem": "cifar"},
        "method": {"name": "matrix_ssl", "momentum": 0.99},
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 1e-5},
        "schedule": {"warmup": 10},
        "train": {"epochs": 100, "batch_size": 64},
    }
    return load(RunConfig, [values], overrides)


def scaled(
    config: RunConfig, batch: int = 256, images: tuple[int, int] | None = COUNTS, **request: Any
) -> tuple[RunConfig, dict[str, Change]]:
    big, changes = scale(config, ScaleRequest(batch, request.pop("workers", 4), **request), images)
    assert len({change.key for change in changes}) == len(changes)
    return big, {change.key: change for change in changes}
