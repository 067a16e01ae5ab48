"""Runs and sweeps as they lie on disk, read for people: nothing is trained, decoded or changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl.config import yaml
from raysl.errors import InputError
from raysl.evaluation.result import read_results

if TYPE_CHECKING:
    from raysl.train.rundir import RunDirectory

LOSS, KNN, RANK = "train/loss", "eval/knn_top1", "diag/rankme"
_NOT_METRICS = "time/"
_NOT_CONTINUED = "not continued"
"""What the loop calls it when whoever pulls it stops pulling, as a sweep does with trials it prunes."""
_LOWER_IS_BETTER = (LOSS, "perf/data_wait")


@dataclass(frozen=True)
class Best:
    """The best value a metric had.

    Args:
        value: the lowest of a loss or a wait, the highest of anything else.
        epoch: when, the first time.
    """

    value: float
    epoch: int


@dataclass(frozen=True)
class RunRecord:
    """What one run has on record.

    Args:
        name: what it is called in tables: its folder, or `sweep/trial`.
        path: its directory.
        config: its resolved config, as plain values.
        status: its state, and why.
        curves: for each metric its epochs and values.
        epochs: completed epochs.
    """

    name: str
    path: Path
    config: dict[str, Any]
    status: dict[str, Any]
    curves: dict[str, tuple[list[int], list[float]]]
    epochs: int

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """Results of `raysl evaluate`, oldest first; see `read_results`."""
        return read_results(self.path / "evaluation")

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config["method"]["name"])

    @property
    def epochs_wanted(self) -> int:
        """Epochs the run is to have."""
        return int(self.config["train"]["epochs"])

    @property
    def state(self) -> str:
        """See `state_word`."""
        return state_word(self.status)

    def last(self, metric: str) -> float | None:
        """Return the last value of a metric."""
        values = self.curves.get(metric, ([], []))[1]
        return values[-1] if values else None

    def best(self, metric: str) -> Best | None:
        """Return the best value of a metric."""
        epochs, values = self.curves.get(metric, ([], []))
        if not values:
            return None
        value = (min if metric in _LOWER_IS_BETTER else max)(values)
        return Best(value, epochs[values.index(value)])


def has_best(metric: str) -> bool:
    """Return whether the best value of a metric says something: that of the loss, and of what was judged."""
    return metric == LOSS or metric.startswith("eval/")


def state_word(status: Mapping[str, Any]) -> str:
    """Return created, running, completed, interrupted, failed, stopped, or why: nan, inf, collapse."""
    state = str(status["state"])
    cause = str(status.get("cause", state))
    return cause if state == "stopped" and cause != _NOT_CONTINUED else state


def is_run(path: Path) -> bool:
    """Return whether a folder is a run directory."""
    return (path / "config.yaml").is_file()


def is_sweep(path: Path) -> bool:
    """Return whether a folder is a sweep's directory."""
    return (path / "space.yaml").is_file()


def trial_paths(sweep: Path) -> list[Path]:
    """Return the run directories of a sweep's trials, by number."""
    folder = sweep / "trials"
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in entries if p.name.isdigit() and is_run(p)), key=lambda p: int(p.name))


def read_run(path: Path, name: str | None = None) -> RunRecord:
    """Read one run.

    Raises:
        InputError: there is no run, or a file of it cannot be read.
    """
    run = _directory(path)
    try:
        config = yaml.parse((path / "config.yaml").read_text(encoding="utf-8"), str(path / "config.yaml"))
        config["method"]["name"], config["train"]["epochs"]
        rows = run.metrics()
        curves, epochs = _curves(rows), max((int(row["epoch"]) for row in rows), default=0)
        status = run.status() | _pruned(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {type(error).__name__}: {error}") from None
    return RunRecord(name or path.resolve().name, path, config, status, curves, epochs)


def read_runs(paths: Sequence[str | Path]) -> list[RunRecord]:
    """Read runs; a sweep stands for its trials. Each run is read once, and names are unique.

    Raises:
        InputError: a path is neither, or a sweep has no trial yet.
    """
    found: dict[Path, str] = {}
    for given in map(Path, paths):
        for path, name in _expanded(given):
            if path.resolve() not in {known.resolve() for known in found}:
                found[path] = name
    names = list(found.values())
    return [read_run(path, name if names.count(name) == 1 else str(path)) for path, name in found.items()]


def _expanded(given: Path) -> Iterable[tuple[Path, str]]:
    if is_run(given):
        return [(given, given.resolve().name)]
    if not is_sweep(given):
        raise InputError(f"{given}: neither a run nor a sweep directory; raysl ls shows the ones there are")
    trials = trial_paths(given)
    if not trials:
        raise InputError(f"{given}: this sweep has no trial yet")
    return [(trial, f"{given.resolve().name}/{trial.name}") for trial in trials]


def sweep_rows(sweep: Path) -> list[dict[str, Any]]:
    """Return what a sweep wrote about its trials: nothing before one has ended."""
    file = sweep / "trials.json"
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []


def _pruned(path: Path) -> dict[str, Any]:
    """Return the status of a trial that its sweep has pruned, which the run itself does not know."""
    sweep = path.parent.parent
    if path.parent.name != "trials" or not path.name.isdigit() or not is_sweep(sweep):
        return {}
    for row in sweep_rows(sweep):
        if row["number"] == int(path.name) and row["state"] == "pruned":
            return {"state": "pruned", "cause": "pruned", "detail": row["reason"]}
    return {}


def _directory(path: Path) -> RunDirectory:
    from raysl.train.rundir import RunDirectory  # imported here: listing an empty folder needs none of it

    return RunDirectory.open(path)


def _curves(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        for tag, value in row["metrics"].items():
            if not tag.startswith(_NOT_METRICS):
                epochs, values = curves.setdefault(tag, ([], []))
                epochs.append(int(row["epoch"]))
                values.append(float(value))
    return curves
