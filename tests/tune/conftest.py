"""Small search spaces."""

from __future__ import annotations

from typing import Any

from raysl.tune.spaces.space import SpaceConfig


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
        "priors": [],
        "noise": {"seeds": 1},
        "trials": 8,
        "epochs": 4,
    }
    return SpaceConfig.model_validate(values | changes)
