"""Run directories written by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysl.config import yaml

Row = Mapping[str, float]


def curve(epochs: int, quality: float) -> list[dict[str, float]]:
    """Metrics of a run that learns; a higher quality ends better."""
    return [
        {
            "train/loss": 5.0 - quality * (1 - math.exp(-epoch / 5)),
            "eval/knn_top1": 80 + 10 * quality * (1 - math.exp(-epoch / 8)),
            "diag/rankme": 20 + 30 * math.exp(-quality * epoch / 4),
            "perf/images_per_s": 1000.0 + epoch,
            "perf/data_wait": 0.2,
            "time/first_step": 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def make_run(
    path: Path,
    rows: Sequence[Row] = (),
    *,
    method: Mapping[str, Any] | None = None,
    lr: float = 0.1,
    epochs: int | None = None,
    status: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run directory with these reports, one for each epoch."""
    path.mkdir(parents=True)
    config = {
        "data": {"source": "digits", "test": None},
        "backbone": {"name": "small_cnn"},
        "method": dict(method or {"name": "simclr", "temperature": 0.5}),
        "optimizer": {"name": "sgd", "lr": lr},
        "schedule": {"name": "cosine", "milestones": []},
        "train": {"epochs": epochs or len(rows), "batch_size": 128},
    }
    (path / "config.yaml").write_text(yaml.dump(config))
    lines = [
        json.dumps({"epoch": epoch, "time": 1000.0 + epoch, "metrics": dict(row)}) + "\n"
        for epoch, row in enumerate(rows, start=1)
    ]
    (path / "metrics.jsonl").write_text("".join(lines))
    if status is not None:
        (path / "status.json").write_text(json.dumps({"pid": 1, "host": "elsewhere", "time": 1.0, **status}))
    return path


def make_sweep(path: Path, qualities: Sequence[float], trials: int | None = None) -> Path:
    """Write a sweep directory; every third trial was stopped early."""
    path.mkdir(parents=True)
    space = {
        "name": path.name,
        "trials": trials or len(qualities),
        "objective": {"metric": "eval/knn_top1", "direction": "maximize"},
        "search": {"optimizer.lr": {"type": "float", "low": 0.01, "high": 1.0, "log": True}},
    }
    (path / "space.yaml").write_text(yaml.dump({"space": space, "base": {"method": {"name": "simclr"}}}))
    for number, quality in enumerate(qualities):
        pruned = number % 3 == 2
        status = {"state": "stopped", "cause": "pruned"} if pruned else {"state": "completed"}
        rows = curve(4 if pruned else 20, quality)
        make_run(path / "trials" / str(number), rows, lr=0.01 * (number + 1), epochs=20, status=status)
    return path


def add_evaluation(run: Path, label: str, top1: float, *, epoch: int = 1, time: float = 1.0) -> Path:
    """Write an evaluation result with what reports read of it."""
    file = run / "evaluation" / f"{label}-{epoch}-{time}.json"
    file.parent.mkdir(exist_ok=True)
    result = {
        "format": 1,
        "label": label,
        "split": "test",
        "checkpoint": {"name": f"epoch_{epoch:04d}", "epoch": epoch},
        "data": {"changed": []},
        "metrics": {"top1": top1, "top1_std": 2.0},
        "baselines": {"untrained": {"top1": top1 - 10}},
        "time": time,
    }
    file.write_text(json.dumps(result))
    return file


def add_checkpoint(run: Path, name: str, knn: float) -> Path:
    """Write a checkpoint's state, without tensors."""
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"metrics": {"eval/knn_top1": knn}}))
    return folder
