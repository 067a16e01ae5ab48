"""One pretraining run from its config to its end: in this process, or on Ray Train's workers."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raysl.data.feeds import Choice, choose_feed, load_images
from raysl.errors import InputError, TrainingStopped
from raysl.methods.base import Plan
from raysl.models.backbones import check_sizes
from raysl.train import checkpoint
from raysl.train.accumulation import check_accumulation, describe_accumulation
from raysl.train.atomic import write_atomically
from raysl.train.config import RunConfig
from raysl.train.context import Context
from raysl.train.devices import choose_device
from raysl.train.diagnostics import check_best, wants_knn
from raysl.train.environment import describe_environment
from raysl.train.interrupts import stop_on_signals
from raysl.train.loop import epochs
from raysl.train.progress import ProgressView
from raysl.train.rundir import RunDirectory
from raysl.train.schedules import describe, make_plan
from raysl.train.session import Session, TrainData


@dataclass(frozen=True)
class PretrainResult:
    """A finished run.

    Args:
        run: its directory.
        epochs: completed epochs.
        metrics: those of the last epoch, by tag.
        checkpoint: the last checkpoint.
    """

    run: Path
    epochs: int
    metrics: dict[str, float]
    checkpoint: Path


@dataclass(frozen=True)
class Prepared:
    """A run that has been checked and can start.

    Args:
        config: the run.
        data: its images.
        plan: resolved lengths.
        lines: what to tell the user before it starts.
    """

    config: RunConfig
    data: TrainData
    plan: Plan
    lines: list[str]

    def facts(self) -> dict[str, Any]:
        """Return the resolved plan as plain values, for `--dry-run --json`."""
        data, launch = self.data, self.config.launch
        return {
            "data": {
                "source": self.config.data.source,
                "train_images": len(data.train),
                "selection_images": len(data.selection),
                "unreadable_images": len(data.train.unreadable),
                "size": [data.train.channels, *data.train.size],
                "labels": data.train.labels is not None,
            },
            "epochs": self.config.train.epochs,
            "horizon_epochs": self.config.horizon,
            "batch_size": self.plan.batch_size,
            "steps_per_epoch": self.plan.steps_per_epoch,
            "horizon_steps": self.plan.horizon_steps,
            "workers": launch.workers,
            "runs": "in this process" if launch.workers == 1 else "on Ray Train",
            "schedule": self.lines,
        }


def needs_ray(config: RunConfig, choice: Choice) -> bool:
    """Return whether a Ray must be connected before a run is prepared or trained."""
    return config.launch.workers > 1 or choice.feed == "ray"


def prepare(config: RunConfig, choice: Choice | None = None) -> Prepared:
    """Load a run's data and check everything that can be checked before it starts.

    Args:
        config: the run.
        choice: its feed, if that is known already.

    Raises:
        InputError: data, sizes, schedules, metrics or a device that cannot be had.
    """
    workers, batch = config.launch.workers, config.train.batch_size
    if batch % workers:
        low, high = batch // workers * workers, (batch // workers + 1) * workers
        raise InputError(
            f"train.batch_size = {batch}: does not divide among launch.workers = {workers}; "
            f"use {' or '.join(str(size) for size in (low, high) if size)}"
        )
    check_accumulation(config, workers)
    if workers == 1:
        choose_device(config)
    choice = choice or choose_feed(config.data)
    train, selection = load_images(config.data, config.views, choice.feed)
    data = TrainData(train, selection)
    plan = make_plan(config, len(train))
    # Built here once, so that what cannot be built is refused before anything is started.
    session = Session(config, data, torch.device("cpu"))
    views = session.views
    check_sizes(session.method.backbone, config.backbone.name, [*views.sizes, views.plain_size])
    check_best(config, data)
    lines = [
        f"{config.data.source}: {len(train)} images to train on, {len(selection)} held out for selection"
    ]
    lines += [
        *([choice.line] if choice.line else []),
        *train.notes,
        *describe(config, plan),
        *describe_accumulation(config),
        *session.method.describe(),
    ]
    # Data without labels have said so in their notes.
    if not wants_knn(config, data) and train.labels is not None:
        why = "diagnostics.knn is false" if config.diagnostics.knn is False else "no images are held out"
        lines.append(f"online k-NN (eval/knn_top1) is off: {why}")
    return Prepared(config, data, plan, lines)


def pretrain(
    prepared: Prepared, path: Path, *, threads: int | None = None, say: Callable[[str], None] = print
) -> PretrainResult:
    """Run it, or continue it.

    With more than one worker a Ray must be connected.

    Args:
        prepared: the run.
        path: its directory; continued when it holds a run of the same config.
        threads: CPU threads of a run in this process; torch's own number when not given.
        say: told the lines for people.

    Raises:
        InputError: the directory is in use, or holds another run.
        TrainingStopped: NaN, infinite or collapsed.
        Interrupted: a signal came; the state is saved.
    """
    config, run = prepared.config, RunDirectory(path)
    # Both before anything is written there.
    run.refuse_foreign()
    if config.launch.workers > 1:
        from raysl.train.launch import require_room

        require_room(config)
    with run.lock():
        continued = run.prepare(config)
        if not continued or not (run.path / "environment.json").exists():
            write_atomically(run.path / "environment.json", json.dumps(describe_environment(), indent=1))
        found = checkpoint.recover(run.checkpoints, warn=lambda line: say(f"warning: {line}"))
        if found is not None:
            say(f"continuing {path} from {found.name}")
        for line in prepared.lines:
            say(line)
        view = ProgressView(config.train.epochs)
        try:
            with stop_on_signals() as stop:
                if config.launch.workers == 1:
                    _here(prepared, run, stop, view, threads)
                else:
                    _on_workers(prepared, run, stop, view)
        except TrainingStopped as error:
            raise TrainingStopped(error.cause, f"{error.detail} ({path})", error.epoch) from None
        finally:
            view.close()
    return result_of(run)


def result_of(run: RunDirectory) -> PretrainResult:
    """Return the result of a complete run.

    Raises:
        InputError: it has no report or no checkpoint yet.
    """
    rows, last = run.metrics(), checkpoint.latest(run.checkpoints)
    if not rows or last is None:
        raise InputError(f"{run.path}: has no finished epoch yet; raysl pretrain continues it")
    return PretrainResult(run.path, rows[-1]["epoch"], rows[-1]["metrics"], last)


def _here(
    prepared: Prepared, run: RunDirectory, stop: Callable[[], bool], view: ProgressView, threads: int | None
) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    context = Context(
        run=run,
        data=prepared.data,
        device=choose_device(prepared.config),
        stop=stop,
        on_step=view.step,
    )
    for report in epochs(prepared.config, context):
        view.epoch(report.epoch, report.metrics)


def _on_workers(prepared: Prepared, run: RunDirectory, stop: Callable[[], bool], view: ProgressView) -> None:
    from raysl.train.launch import launch

    with _following(run, view):
        launch(prepared.config, run, prepared.data, stop=stop, on_step=view.step)


@contextlib.contextmanager
def _following(run: RunDirectory, view: ProgressView) -> Iterator[None]:
    """Show the epochs that workers record, as they are recorded."""
    seen, ended = len(run.metrics()), threading.Event()

    def show_new() -> None:
        nonlocal seen
        rows = run.metrics()
        for row in rows[seen:]:
            view.epoch(row["epoch"], row["metrics"])
        seen = len(rows)

    def follow() -> None:
        while not ended.wait(0.5):
            show_new()

    thread = threading.Thread(target=follow, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        show_new()
