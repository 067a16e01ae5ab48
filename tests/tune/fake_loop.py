"""A training loop that learns nothing in no time, and fails in every way a real one can.

What a trial does depends on the number that its directory is named after.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from raysl.errors import TrainingStopped
from raysl.train.config import RunConfig
from raysl.train.context import Context, Report

NAN, ERROR, KILLED_ONCE, KILLED_ALWAYS = 2, 3, 4, 5
EPOCH_S = 0.02


def epochs(config: RunConfig, context: Context) -> Iterator[Report]:
    """Yield one report per epoch; the objective is minus the learning rate."""
    run, number = context.run, int(context.run.path.name)
    fence = run.claim(context.fence)
    rows = run.metrics()
    for epoch in range(len(rows) + 1, config.train.epochs + 1):
        time.sleep(EPOCH_S)
        if number == NAN and epoch == 2:
            raise TrainingStopped("nan", "the loss became nan", epoch - 1)
        if number == ERROR and epoch == 2:
            raise ValueError("no such luck")
        mark = run.path / "killed"
        if (number == KILLED_ALWAYS and epoch == 2) or (
            number == KILLED_ONCE and epoch == 3 and not mark.exists()
        ):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        metrics = {
            "eval/knn_top1": -config.optimizer.lr,
            "train/loss": 1.0 / epoch,
            "time/first_step": time.time(),
        }
        run.append_metrics(
            fence, {"epoch": epoch, "time": time.time(), "metrics": metrics, "pid": os.getpid()}
        )
        yield Report(epoch, metrics)
    run.set_status("completed")


def metric_missing(config: RunConfig, context: Context) -> Iterator[Report]:
    """Yield reports without the objective."""
    fence = context.run.claim(context.fence)
    context.run.append_metrics(fence, {"epoch": 1, "time": time.time(), "metrics": {"train/loss": 1.0}})
    yield Report(1, {"train/loss": 1.0})
