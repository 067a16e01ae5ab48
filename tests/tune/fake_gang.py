"""A training loop of several workers that learns nothing in no time, and fails in every way a real one can.

What a trial does depends on the number that its directory is named after.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import ray
import torch.distributed as dist

from raysl.errors import Interrupted, TrainingStopped
from raysl.models.parallel import rank, world_size
from raysl.train.config import RunConfig
from raysl.train.context import Context, Report
from raysl.train.control import Control

WORKER_KILLED, ACTOR_KILLED, ERROR, NAN, WORSE = range(5)


def epochs(config: RunConfig, context: Context) -> Iterator[Report]:
    """Yield one report per epoch on every worker; the objective is minus the learning rate."""
    run, number, control = context.run, int(context.run.path.name), Control()
    fence = run.claim(context.fence) if rank() == 0 else 0
    recorded = control.from_first(run.recorded())
    for epoch in range(recorded + 1, config.train.epochs + 1):
        if epoch == 2:
            _meet_fate(number, run.path)
        pids = [0] * world_size()
        dist.all_gather_object(pids, os.getpid())
        metrics = {"eval/knn_top1": -config.optimizer.lr, "train/loss": 1.0 / epoch, "groups": _groups()}
        if rank() == 0:
            row = {"epoch": epoch, "time": time.time(), "metrics": metrics, "pids": pids}
            run.append_metrics(fence, row)
        yield Report(epoch, metrics)
        if control.any(context.stop())[0]:
            raise Interrupted("saved")
    if rank() == 0:
        run.set_status("completed")


def _groups() -> float:
    """Return how many placement groups with CPUs there are, which leaves those of Ray Tune out."""
    table = ray.util.placement_group_table().values()
    return float(sum("CPU" in group["bundles"][0] for group in table if group["state"] == "CREATED"))


def _meet_fate(number: int, directory: Path) -> None:
    if number == ERROR and rank() == 1:
        raise ValueError("no such luck")
    if number == NAN:
        raise TrainingStopped("nan", "the loss became nan", 1)
    mark = directory / f"killed{rank()}"
    if number in (WORKER_KILLED, ACTOR_KILLED) and not mark.exists():
        mark.touch()
        if number == WORKER_KILLED and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == ACTOR_KILLED and rank() == 0:
            # The process of the trial holds the lock.
            told = re.search(r"process (\d+)", (directory / ".lock").read_text())
            assert told is not None
            os.kill(int(told[1]), signal.SIGKILL)
        # Nobody is left to wait for.
        time.sleep(600)
