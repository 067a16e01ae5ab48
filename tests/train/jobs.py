"""Jobs of several workers: real processes over gloo, without Ray.

They are started once for all jobs of a test session, because importing torch takes longer than any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from raysl.data.sources import load_training
from raysl.errors import RayslError
from raysl.train.config import RunConfig
from raysl.train.context import Context
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from raysl.train.session import Session, TrainData
from tests.train.made import METHODS, StopAfter, config, digits, train

STEPS = 50
FEW_STEPS = 15
"""Of the job whose four processes wait longest for each other on two cores."""
MOST_WORKERS = 4


@dataclass(frozen=True)
class Job:
    """What some workers do together.

    Args:
        name: of its folder below the jobs' folder.
        workers: how many.
        config: the run.
        steps: optimizer steps to take without the loop; 0 runs the loop.
        stop_at: at which of its questions the last worker asks the loop to stop; 0 never.
        whole_data: train on what the config says, not on a few digits.
    """

    name: str
    workers: int
    config: RunConfig
    steps: int = 0
    stop_at: int = 0
    whole_data: bool = False


def float64_config(method: str) -> RunConfig:
    return config(
        "train.precision=float64", "train.epochs=13", "schedule.warmup=10%", "optimizer.lr=0.05",
        "optimizer.weight_decay=1e-4", method=method,
    )  # fmt: skip


UNDISTURBED = config(
    "train.epochs=7",
    "train.batch_size=16",
    "launch.workers=2",
    "data.selection.fraction=0.3",
    method="simclr",
)
"""Slow enough to be killed in the middle of an epoch, because an epoch has 62 steps."""
CONTINUED = config("schedule.horizon=4", "train.precision=float64", "train.epochs=4", "launch.workers=2")
JOBS = [
    *(Job(f"{method}-2", 2, float64_config(method), STEPS) for method in METHODS),
    Job("matrix_ssl-4", MOST_WORKERS, float64_config("matrix_ssl"), FEW_STEPS),
    Job("simclr-4", MOST_WORKERS, float64_config("simclr"), STEPS),
    *(Job(f"{method}-first", 2, config(method=method), 1) for method in METHODS),
    Job("straight", 2, config()),
    Job("stopped", 2, config(), stop_at=6),
    Job("stopped", 2, config()),
    Job("continued", 2, CONTINUED),
    Job("undisturbed", 2, UNDISTURBED, whole_data=True),
    Job("diverged", 2, config("optimizer.lr=1e30")),
    Job("bf16", 2, config("train.precision=bf16", "train.epochs=1", method="simclr")),
]


@dataclass(frozen=True)
class Trained:
    """What a worker ended with.

    Args:
        losses: the loss of every step.
        gradients: those of the first step.
        tensors: all weights and buffers at the end.
    """

    losses: list[float]
    gradients: dict[str, Tensor]
    tensors: dict[str, Tensor]


def take_steps(run_config: RunConfig, count: int) -> Trained:
    torch.set_num_threads(1)
    session = Session(run_config, digits(), torch.device("cpu"))
    losses: list[float] = []
    gradients: dict[str, Tensor] = {}
    for index in range(count):
        epoch, step = divmod(index, session.plan.steps_per_epoch)
        batch = next(session.feed.epoch(epoch, start_step=step))
        report, _ = session.step(batch, index)
        losses.append(float(report.loss.detach()))
        if index == 0:
            gradients = {
                n: p.grad.clone() for n, p in session.method.named_parameters() if p.grad is not None
            }
    return Trained(losses, gradients, dict(session.method.state_dict()))


def run_loop(job: Job, folder: Path, number: int) -> str:
    asked = job.stop_at and number == job.workers - 1
    stop: Callable[[], bool] = StopAfter(job.stop_at) if asked else (lambda: False)
    run = RunDirectory(folder / "run")
    if number == 0:
        run.prepare(job.config)
    try:
        data = TrainData(*load_training(job.config.data)) if job.whole_data else digits()
        list(epochs(job.config, Context(run, data, stop=stop)))
    except RayslError as ending:
        return type(ending).__name__
    return "completed"


def _worker(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    for place, job in enumerate(JOBS):
        if number >= job.workers:
            continue
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous{place}", rank=number, world_size=job.workers,
            timeout=timedelta(seconds=90),
        )  # fmt: skip
        result: Any = (
            vars(take_steps(job.config, job.steps)) if job.steps else run_loop(job, folder / job.name, number)
        )
        dist.destroy_process_group()
        torch.save(result, folder / f"{place}-{number}.pt")


@dataclass(frozen=True)
class Done:
    """All jobs, finished."""

    folder: Path

    def results(self, name: str) -> list[list[Any]]:
        """Return what each worker of each job of a name ended with."""
        return [
            [torch.load(self.folder / f"{place}-{number}.pt") for number in range(job.workers)]
            for place, job in enumerate(JOBS)
            if job.name == name
        ]

    def trained(self, name: str) -> list[Trained]:
        return [Trained(**result) for result in self.results(name)[0]]

    def run(self, name: str) -> Path:
        return self.folder / name / "run"


def do_all(folder: Path) -> Done:
    """Run every job."""
    for job in JOBS:
        (folder / job.name).mkdir(exist_ok=True)
    half = CONTINUED.model_copy(update={"train": CONTINUED.train.model_copy(update={"epochs": 2})})
    train(half, folder / "continued" / "run")
    spawn(_worker, (folder,), nprocs=MOST_WORKERS)  # type: ignore[no-untyped-call]
    return Done(folder)
