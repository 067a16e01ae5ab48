"""`raysl ls`: the runs and sweeps in a folder, one line each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from raysl.errors import InputError
from raysl.report.detail import RunDetail, SweepDetail, show_run
from raysl.report.records import KNN, LOSS, is_run, is_sweep, read_run
from raysl.report.sweeps import read_sweep
from raysl.report.text import age, number, percent, render, table

__all__ = ["ListedRun", "Listing", "RunDetail", "SweepDetail", "list_runs", "show_run"]

_DEPTH = 4


@dataclass(frozen=True)
class ListedRun:
    """One line of a listing.

    Args:
        name: path below the listed folder.
        kind: `run` or `sweep`.
        method: name of the method.
        state: created, running, completed, interrupted, failed, why it was stopped, or `unreadable`.
        done: completed epochs of a run, ended trials of a sweep.
        total: epochs or trials there are to be.
        train_loss: the last one of a run.
        knn_top1: the last online k-NN accuracy of a run, in percent.
        best_knn_top1: the best of a run, or of all trials.
        updated: when it last changed, in unix seconds.
        detail: why, where there is a reason.
    """

    name: str
    kind: Literal["run", "sweep"]
    method: str
    state: str
    done: int
    total: int
    train_loss: float | None
    knn_top1: float | None
    best_knn_top1: float | None
    updated: float
    detail: str = ""


@dataclass(frozen=True)
class Listing:
    """The runs and sweeps in a folder, the latest first.

    Args:
        folder: where they are.
        runs: one line each.
    """

    folder: Path
    runs: list[ListedRun]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"folder": str(self.folder), "runs": [asdict(run) for run in self.runs]}

    def to_text(self) -> str:
        """Return a table."""
        if not self.runs:
            return f"{self.folder}: no runs yet; raysl quickstart makes some"
        made = table("run", "method", "state", "done", "loss", "k-NN %", "best", "changed")
        now = time.time()
        for run in self.runs:
            unit = "epochs" if run.kind == "run" else "trials"
            made.add_row(
                run.name,
                run.method,
                run.state,
                f"{run.done}/{run.total} {unit}",
                number(run.train_loss),
                percent(run.knn_top1),
                percent(run.best_knn_top1),
                f"{age(now - run.updated)} ago",
            )
        reasons = [f"{run.name}: {run.detail}" for run in self.runs if run.detail]
        return "\n".join([render(made), *reasons])


def list_runs(folder: str | Path = "runs") -> Listing:
    """List the runs and sweeps in a folder and the folders within it; of a sweep's own folder, its trials.

    Args:
        folder: where to look.

    Raises:
        InputError: there is no such folder, or it is a run itself.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder}: no such folder; runs are made below runs, or where --runs says")
    if is_run(root):
        raise InputError(f"{folder}: a run itself; raysl show {folder} shows it")
    start = root / "trials" if is_sweep(root) else root
    runs = [_listed(path, str(path.relative_to(start))) for path in _walk(start, _DEPTH)]
    return Listing(root, sorted(runs, key=lambda run: run.updated, reverse=True))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if is_run(path) or is_sweep(path):
            yield path
        elif path.is_dir() and depth > 1 and not path.name.startswith("."):
            yield from _walk(path, depth - 1)


def _listed(path: Path, name: str) -> ListedRun:
    kind: Literal["run", "sweep"] = "run" if is_run(path) else "sweep"
    try:
        return _listed_run(path, name) if kind == "run" else _listed_sweep(path, name)
    except InputError as error:
        return ListedRun(name, kind, "", "unreadable", 0, 0, None, None, None, _changed(path), str(error))


def _listed_run(path: Path, name: str) -> ListedRun:
    run = read_run(path, name)
    best = run.best(KNN)
    return ListedRun(
        name=name,
        kind="run",
        method=run.method,
        state=run.state,
        done=run.epochs,
        total=run.epochs_wanted,
        train_loss=run.last(LOSS),
        knn_top1=run.last(KNN),
        best_knn_top1=best.value if best else None,
        updated=_changed(path),
    )


def _listed_sweep(path: Path, name: str) -> ListedRun:
    sweep = read_sweep(path)
    return ListedRun(
        name=name,
        kind="sweep",
        method=sweep.method,
        state=sweep.state,
        done=sweep.ended,
        total=sweep.trials_wanted,
        train_loss=None,
        knn_top1=None,
        best_knn_top1=max((t.best_knn for t in sweep.trials if t.best_knn is not None), default=None),
        updated=_changed(path),
    )


def _changed(path: Path) -> float:
    """Return when a record in the folder last changed."""
    names = (
        "metrics.jsonl",
        "status.json",
        "study.log",
        "best.yaml",
        "config.yaml",
        "space.yaml",
        "evaluation",
    )
    files = [path / name for name in names]
    return max((file.stat().st_mtime for file in files if file.exists()), default=path.stat().st_mtime)
