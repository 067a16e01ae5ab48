"""Jobs of several workers: real processes over gloo, without Ray.

They are started once for all jobs of a test session, because importing torch takes longer than any of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

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
WORKERS = 2
"""Of every job; `tests/methods` compares four with one."""


@dataclass(frozen=True)
class Job:
    """What some workers do together.

    Args:
        name: of its folder below the jobs' folder.
        config: the run.
        steps: optimizer steps to take without the loop; 0 runs the loop.
        stop_at: at which of its questions the last worker asks the loop to stop; 0 never.
        whole_data: train on what the config says, not on a few digits.
    """

    name: str
    config: RunConfig
    steps: int = 0
    stop_at: int = 0
    whole_data: bool = False


def float64_config(method: str) -> RunConfig:
    return config(
        "train.precision=float64", "train.epochs=13", "schedule.warmup=10%", "optimizer.lr=0.05",
        "optimizer.weight_decay=1e-4", method=method,
    )  # fmt: skip


SLICED = config("train.precision=float64", "train.accumulation=4", "train.epochs=13")
MICRO = config(
    "train.precision=float64", "train.accumulation=4", "train.accumulation_loss=micro", "train.epochs=13",
    "method={name: simsiam, projector: {width: 32, out: 16}, predictor: {width: 8}}",
)  # fmt: skip
UNDISTURBED = config(
    "train.epochs=4",
    "train.batch_size=16",
    "launch.workers=2",
    "data.selection.fraction=0.3",
    method="simclr",
)
"""Slow enough to be killed in the middle of an epoch, because an epoch has 62 steps."""
CONTINUED = config("schedule.horizon=4", "train.precision=float64", "train.epochs=4", "launch.workers=2")
JOBS = [
    *(Job(method, float64_config(method), STEPS) for method in METHODS),
    Job("sliced", SLICED, FEW_STEPS),
    Job("micro", MICRO, FEW_STEPS),
    Job("straight", config()),
    Job("stopped", config(), stop_at=6),
    Job("stopped", config()),
    Job("continued", CONTINUED),
    Job("undisturbed", UNDISTURBED, whole_data=True),
    Job("diverged", config("optimizer.lr=1e30")),
    Job("bf16", config("train.precision=bf16", "train.epochs=1", method="simclr")),
]


@dataclass(frozen=True)
class Trained:
    """What a worker ended with.

    Args:
        losses: the loss of every step.
        tensors: all weights and buffers at the end.
    """

    losses: list[float]
    tensors: dict[str, Tensor]


def take_steps(run_config: RunConfig, count: int) -> Trained:
    torch.set_num_threads(1)
    session = Session(run_config, digits(), torch.device("cpu"))
    losses: list[float] = []
    for index in range(count):
        epoch, step = divmod(index, session.plan.steps_per_epoch)
        batch = next(session.feed.epoch(epoch, start_step=step))
        report, _ = session.step(batch, index)
        losses.append(float(report.loss.detach()))
    return Trained(losses, dict(session.method.state_dict()))


def run_loop(job: Job, folder: Path, number: int) -> str:
    asked = job.stop_at and number == WORKERS - 1
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
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous{place}", rank=number, world_size=WORKERS,
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
            [torch.load(self.folder / f"{place}-{number}.pt") for number in range(WORKERS)]
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
    # A fork server imports torch once for both; its optimizers would import the second name later.
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    start_processes(_worker, (folder,), nprocs=WORKERS, start_method="forkserver")  # type: ignore[no-untyped-call]
    return Done(folder)
