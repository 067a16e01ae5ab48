"""A trial of several workers: a Ray Train run inside the process of a trial, pulled an epoch at a time.

To the trial's process it is an iterator as the loop itself is. The workers hold the CPUs and GPUs, in a
placement group that Ray Train makes and removes; the run lives in a thread and has ended when the iterator
has. Ray Train starts no worker again: attempts are counted in the ledger and nowhere else.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer
from torch.distributed import DistError

from raysl.errors import Interrupted, RayslError, TrainingStopped
from raysl.train.context import Context
from raysl.train.control import Control
from raysl.train.devices import gpus_per_worker
from raysl.train.launch import build_trainer
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from raysl.tune.trials.board import Key
from raysl.tune.trials.messages import End, Launch
from raysl.tune.trials.runner import GangEnded, end_of

PATIENCE_S = 60.0
"""For the workers to leave when they are told to."""
_LOOK_S = 0.1
_HELPERS = ("DatasetsCallback", "PlacementGroupCleanerCallback")


@dataclass(frozen=True)
class _Job:
    """What every worker is given: the attempt, its directory, and where its images and the board are."""

    launch: Launch
    run: RunDirectory
    shared: Any
    board: Any

    @property
    def key(self) -> Key:
        return self.launch.number, self.launch.fence


class _Trainer(TorchTrainer):
    """Ray Train's driver without two of its helpers, each a process more for each attempt.

    One shares out Ray Data sets, of which there are none. The other removes placement groups of a run that
    died, but needs the dashboard, and is itself left for ever where a Ray was joined, because it
    ends only its thread; `raysl.tune.trials.gangs` does without.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # Ray's own types are Train V1's
        return [one for one in callbacks if type(one).__name__ not in _HELPERS]


def gang_epochs(launch: Launch, shared: Any, board: Any) -> Iterator[int]:
    """Train on the workers that a launch asks for, and yield after each epoch that is on record.

    Args:
        launch: the attempt.
        shared: reference to (images, loop) in the object store.
        board: handle of the sweep's `Board`.

    Raises:
        GangEnded: the training ended otherwise than with its last epoch.
        RayslError: the workers do not leave.
    """
    job = _Job(launch, RunDirectory(Path(launch.directory)), shared, board)
    gpus = gpus_per_worker(launch.config, ray.cluster_resources().get("GPU", 0.0))
    storage = launch.config.launch.storage or str(Path(launch.stop_file).parent / "train")
    trainer = build_trainer(_work, job, launch.config, gpus, storage, _no_second_start(), _Trainer)
    failure: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # told below, by what the workers say of it
            failure.append(error)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    trained = 0
    try:
        while _go_on(job, thread):
            trained += 1
            yield trained
    except ray.exceptions.RayActorError as error:  # the board is gone, without which nobody goes on
        failure.insert(0, error)
    finally:
        board.stop.remote(job.key)
        thread.join(PATIENCE_S)
        if thread.is_alive():
            raise RayslError(f"trial {launch.number}: its workers have not left in {PATIENCE_S:g} s")
        ends = _ends(job)
    if ends or failure:
        raise _ended(ends, failure)


def _no_second_start() -> ray.train.FailureConfig:
    limits = ("max_failures", "controller_failure_limit", "max_preemption_failures")
    # The last one is newer than the oldest Ray we run on.
    known = {one.name for one in fields(ray.train.FailureConfig)}
    chosen: dict[str, Any] = {limit: 0 for limit in limits if limit in known}
    return ray.train.FailureConfig(**chosen)


def _go_on(job: _Job, thread: threading.Thread) -> bool:
    """Return whether another epoch is on record; no when the run has ended instead."""
    asked = job.board.go_on.remote(job.key)
    while True:
        alive = thread.is_alive()
        if ray.wait([asked], timeout=_LOOK_S if alive else 0.0)[0]:
            return bool(ray.get(asked))
        if not alive:
            return False


def _ends(job: _Job) -> dict[int, tuple[End, str]]:
    # A board that is gone has taken the workers' words with it.
    with contextlib.suppress(ray.exceptions.RayActorError):
        ends: dict[int, tuple[End, str]] = ray.get(job.board.take_ends.remote(job.key))
        return ends
    return {}


def _ended(ends: dict[int, tuple[End, str]], failure: list[Exception]) -> GangEnded:
    """Return what has really happened: a worker that fails takes others with it."""
    for rank in sorted(ends):
        end, trace = ends[rank]
        if not end.died:
            return GangEnded(end, f"worker {rank}\n{trace}")
    cause = _root(failure[0]) if failure else None
    if isinstance(cause, ray.exceptions.OutOfMemoryError):
        return GangEnded(End("oom", "a worker was ended because its node ran out of memory", died=True))
    if ends or isinstance(cause, ray.exceptions.RayActorError):
        return GangEnded(End("killed", "a worker was killed or crashed", died=True))
    said = " ".join(str(cause).split())
    return GangEnded(End("error", f"its workers could not be run: {said}", died=True), str(failure[0]))


def _root(error: BaseException) -> BaseException:
    """Return the worker's error, or the controller's, from inside Ray Train's wrapping."""
    workers = getattr(error, "worker_failures", None)
    inside = next(iter(workers.values()), None) if workers else None
    for name in ("controller_failure", "health_check_failure", "cause"):
        inside = inside or getattr(error, name, None)
    return _root(inside) if isinstance(inside, BaseException) else error


def _work(given: dict[str, Any]) -> None:
    """One worker: run the loop, wait after each epoch to be told to go on, and say how it ended."""
    job: _Job = given["job"]
    rank = ray.train.get_context().get_world_rank()
    torch.set_num_threads(job.launch.threads)
    try:
        _train(job, first=rank == 0)
    except (TrainingStopped, Interrupted) as error:
        # These all workers raise together.
        if rank == 0:
            ray.get(job.board.failed.remote(job.key, rank, end_of(error), traceback.format_exc()))
    except Exception as error:  # a trial may fail in any way
        end = End("killed", "a worker is gone", died=True) if _lost_another(error) else end_of(error)
        ray.get(job.board.failed.remote(job.key, rank, end, traceback.format_exc()))
        raise


def _train(job: _Job, *, first: bool) -> None:
    data, loop = ray.get(job.shared)
    context = Context(
        run=job.run,
        data=data,
        device=ray.train.torch.get_device(),
        fence=job.launch.fence,
        stop=Path(job.launch.stop_file).exists,
    )
    control = Control()
    reports = (loop or epochs)(job.launch.config, context)
    # Ray Train is told nothing: its reports take a fifth of a second each, and their place is the ledger.
    for _ in reports:
        go_on = ray.get(job.board.trained.remote(job.key)) if first else None
        if not control.from_first(go_on):
            reports.close()  # type: ignore[union-attr]  # it is a generator
            return


def _lost_another(error: Exception) -> bool:
    """Tell whether it failed because another worker is gone, or the board."""
    if isinstance(error, DistError | ray.exceptions.RayActorError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error).lower()
