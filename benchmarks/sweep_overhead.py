"""What the sweep itself costs: one-second trials on two slots, and the share of a long trial."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysl.cluster.connect import connect
from raysl.train.config import RunConfig
from raysl.train.context import Context, Report
from raysl.tune.records.record import read_record
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.sweep import sweep

KNN = "eval/knn_top1"
_LONG_S, _LONG_EPOCHS = 600.0, 20


def _asleep(config: RunConfig, context: Context) -> Iterator[Report]:
    """Spend `optimizer.weight_decay` seconds on each epoch, and learn nothing."""
    run, fence = context.run, context.run.claim(context.fence)
    for epoch in range(1, config.train.epochs + 1):
        time.sleep(config.optimizer.weight_decay)
        metrics = {KNN: -config.optimizer.lr, "train/loss": 1.0 / epoch}
        run.append_metrics(fence, {"epoch": epoch, "time": time.time(), "metrics": metrics})
        yield Report(epoch, metrics)
    run.set_status("completed")


def _space(trials: int, epochs: int, seconds: float) -> SpaceConfig:
    values: dict[str, Any] = {
        "name": "overhead",
        "base": "digits/simclr",
        "overrides": {"train.batch_size": 256, "optimizer.weight_decay": seconds},
        "search": {"optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "stopping": {"rule": "none"},
        "priors": [],
        "noise": {"seeds": 1},
        "trials": trials,
        "epochs": epochs,
    }
    return SpaceConfig.model_validate(values)


def overhead(rounds: int = 3) -> int:
    """Measure both and return an exit code: 1 where a limit is exceeded."""
    walls, per_report = [], []
    with connect("local") as ray, tempfile.TemporaryDirectory() as folder:
        print(ray.describe())
        for number in range(rounds):
            begun = time.monotonic()
            sweep(_space(50, 1, 1.0), Path(folder) / f"short{number}", say=lambda line: None, loop=_asleep)
            walls.append(time.monotonic() - begun)
            epochs, seconds = 60, 0.1
            long = Path(folder) / f"long{number}"
            sweep(_space(1, epochs, seconds), long, say=lambda line: None, loop=_asleep)
            times = [report.time for report in read_record(long).trials[0].reports]
            per_report.append((times[-1] - times[0]) / (epochs - 1) - seconds)
    wall, cost = statistics.median(walls), statistics.median(per_report)
    share = _LONG_EPOCHS * cost / _LONG_S
    shown = ", ".join(f"{one:.1f}" for one in walls)
    print(f"50 one-second trials on 2 slots: {wall:.1f} s, {wall / 25:.2f}x of the ideal 25 s ({shown})")
    print(f"between a report and the next epoch: {1e3 * cost:.1f} ms")
    print(
        f"so {share:.3%} of a trial of 10 minutes and {_LONG_EPOCHS} epochs (extrapolated: what a report "
        "costs does not depend on how long its epoch took)"
    )
    return 1 if wall > 1.5 * 25 or share > 0.02 else 0
