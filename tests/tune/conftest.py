"""One Ray for all sweeps of this folder, and small search spaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from raysl.cluster.connect import ClusterInfo, connect
from raysl.tune.space import SpaceConfig

STORE = 100 * 1024**2


@pytest.fixture(scope="package")
def cluster() -> Iterator[ClusterInfo]:
    """A private Ray with 2 CPUs."""
    with connect("local", cpus=2, gpus=0, object_store_memory=STORE, dashboard=False) as info:
        yield info


def space(**changes: Any) -> SpaceConfig:
    """Return a small search space over the digits recipe."""
    values: dict[str, Any] = {
        "name": "small",
        "base": "digits/simclr",
        "overrides": {"train.batch_size": 256},
        "search": {
            "optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
            "method.temperature": {"type": "float", "low": 0.1, "high": 1.0},
        },
        "sampler": {"name": "tpe", "seed": 3, "n_startup_trials": 4},
        "stopping": {"rule": "none"},
        "trials": 8,
        "epochs": 4,
    }
    return SpaceConfig.model_validate(values | changes)
