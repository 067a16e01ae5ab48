"""The same loop on many workers: a Ray Train job of DDP processes.

A small actor, the job's board, stands between the driver and the first worker: the worker posts how far it is
and how it ended, and reads there whether the driver wants it to stop. Ending for a reason (collapse,
interruption) is a normal return of the training function, so that Ray Train starts again only what really
died.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer

from raysl.data.feeds import share_out
from raysl.errors import Fenced, InputError, Interrupted, RayslError, TrainingStopped
from raysl.train.config import RunConfig
from raysl.train.context import Context, StepNews
from raysl.train.devices import gpus_per_worker
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from raysl.train.session import TrainData

_EXCHANGE_S = 0.25


@dataclass(frozen=True)
class _Job:
    """What every worker is given."""

    config: RunConfig
    run: RunDirectory
    data: ray.ObjectRef[TrainData]
    board: Any


@ray.remote(num_cpus=0)
class _Board:
    """Holds the latest news and the outcome of a job, and whether it should stop."""

    def __init__(self) -> None:
        self._stop = False
        self._news: StepNews | None = None
        self._outcome: RayslError | None = None

    def ask_to_stop(self) -> None:
        self._stop = True

    def exchange(self, news: StepNews | None) -> bool:
        self._news = news or self._news
        return self._stop

    def end(self, outcome: RayslError | None) -> None:
        self._outcome = outcome

    def news(self) -> StepNews | None:
        return self._news

    def outcome(self) -> RayslError | None:
        return self._outcome


def launch(
    config: RunConfig,
    run: RunDirectory,
    data: TrainData,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[StepNews], None] | None = None,
) -> None:
    """Train a run on `config.launch.workers` workers of the connected Ray; returns when it is complete.

    Args:
        config: the run.
        run: its directory, on a path that every node sees.
        data: the images; put once into the object store and mapped by every worker of a node.
        stop: asked several times a second; yes makes all workers save and stop.
        on_step: told the latest news several times a second.

    Raises:
        InputError: the cluster can never hold the workers.
        TrainingStopped, Interrupted: as the loop raised them.
        RayslError: workers kept dying, or could not be started in time.
    """
    settings = config.launch
    gpus = require_room(config)
    board = _Board.remote()  # type: ignore[attr-defined]
    # Workers have a working directory of their own.
    there = RunDirectory(run.path.absolute())
    share_out(data.train, settings.workers)
    trainer = build_trainer(
        _work,
        _Job(config, there, ray.put(data), board),
        config,
        gpus,
        settings.storage or str(there.path / ".ray_train"),
        ray.train.FailureConfig(
            max_failures=settings.max_failures,
            controller_failure_limit=3,  # type: ignore[call-arg]  # Ray's own types are Train V1's
        ),
    )
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    asked = False
    while thread.is_alive():
        thread.join(_EXCHANGE_S)
        if stop() and not asked:
            board.ask_to_stop.remote()
            asked = True
        if on_step is not None and (news := ray.get(board.news.remote())) is not None:
            on_step(news)
    outcome: RayslError | None = ray.get(board.outcome.remote())
    ray.kill(board)
    if outcome is not None:
        raise outcome
    if failure:
        raise RayslError(f"the workers failed: {_root_cause(failure[0])}") from failure[0]
    if settings.storage is None:
        shutil.rmtree(run.path / ".ray_train", ignore_errors=True)


def require_room(config: RunConfig) -> float:
    """Refuse a job that the connected cluster can never hold.

    Returns:
        GPUs of each worker.

    Raises:
        InputError: says what is wanted and what there is.
    """
    settings, there = config.launch, ray.cluster_resources()
    gpus = gpus_per_worker(config, there.get("GPU", 0.0))
    wanted = {"CPU": settings.cpus_per_worker * settings.workers, "GPU": gpus * settings.workers}
    for kind, amount in wanted.items():
        if amount > there.get(kind, 0.0):
            raise InputError(
                f"launch.workers = {settings.workers}: wants {amount:g} {kind}s, but the cluster has "
                f"{there.get(kind, 0.0):g}; use fewer workers or less per worker"
            )
    return gpus


def build_trainer(
    work: Callable[[dict[str, Any]], None],
    job: Any,
    config: RunConfig,
    gpus: float,
    storage: str,
    failures: ray.train.FailureConfig,
    kind: type[TorchTrainer] = TorchTrainer,
) -> TorchTrainer:
    """Return Ray Train's driver of a job.

    Args:
        work: what each worker runs, with `{"job": job}`.
        job: what every worker is given.
        config: the run.
        gpus: GPUs of each worker.
        storage: where Ray Train keeps its own notes.
        failures: how often it starts the workers again.
        kind: class of the driver.
    """
    settings = config.launch
    # NCCL refuses two workers on one GPU.
    backend = ("nccl" if gpus >= 1 else "gloo") if settings.backend == "auto" else settings.backend
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    threads = str(max(1, int(settings.cpus_per_worker)))
    # Ray Train takes this one from the environment only.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = f"{settings.start_timeout_s:g}"
    return kind(
        work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend=backend),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # Ray's own types are Train V1's
            # A name of its own, because a name used before makes Ray Train resume its own bookkeeping.
            name=f"{job.run.path.name}-{time.time_ns()}",
            storage_path=storage,
            failure_config=failures,
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": threads}},
        ),
    )


def _work(given: dict[str, Any]) -> None:
    """One worker: run the loop, report to Ray Train, and tell the board how it ended."""
    job: _Job = given["job"]
    first = ray.train.get_context().get_world_rank() == 0
    device = ray.train.torch.get_device()
    torch.set_num_threads(max(1, int(job.config.launch.cpus_per_worker)))
    post = _Post(job.board) if first else None
    context = Context(run=job.run, data=ray.get(job.data), device=device)
    if post is not None:
        context = replace(context, stop=post.stop_asked, on_step=post.set_news)
    try:
        # A group that was started again must not take back what a newer attempt took from the one before,
        # nor try again what is the user's to put right.
        if isinstance(ray.get(job.board.outcome.remote()), Fenced | InputError):
            return
        if first:
            ray.get(job.board.end.remote(None))
        for report in epochs(job.config, context):
            ray.train.report(dict(report.metrics) | {"epoch": report.epoch})
    except RayslError as outcome:
        if first:
            ray.get(job.board.end.remote(outcome))
        # These two every worker raises together; after any other the workers may be waiting for this one.
        if not isinstance(outcome, TrainingStopped | Interrupted):
            raise
    finally:
        if post is not None:
            post.close()


class _Post:
    """The first worker's side of the board, in a thread of its own so that training never waits for it."""

    def __init__(self, board: Any) -> None:
        self._board, self._news, self._stop = board, None, False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._exchange, name="board", daemon=True)
        self._thread.start()

    def set_news(self, news: StepNews) -> None:
        self._news = news  # type: ignore[assignment]

    def stop_asked(self) -> bool:
        return self._stop

    def close(self) -> None:
        self._closed.set()
        self._thread.join(5.0)

    def _exchange(self) -> None:
        while not self._closed.wait(_EXCHANGE_S):
            self._stop = ray.get(self._board.exchange.remote(self._news))


def _root_cause(error: BaseException) -> str:
    """Return the first line that says what went wrong, from inside Ray's wrapping."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or "died" in line or "Timeout" in line]
    return (telling or lines or [type(error).__name__])[-1]
