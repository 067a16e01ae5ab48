"""A sweep as its directory tells it; the ledger itself is only read by who drives the sweep.

Why and with which hyperparameters a trial ended, the sweep writes for us into `trials.json`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raysl.config import yaml
from raysl.errors import InputError
from raysl.report.records import KNN, state_word, trial_paths

_UNFINISHED = {"created", "running", "interrupted"}
_LEASE_EXPIRY_S = 30.0


@dataclass(frozen=True)
class TrialRecord:
    """One trial in a few numbers.

    Args:
        number: of the trial.
        state: as the sweep has it: running, pruned, complete or `failed (cause)`; else that of its run.
        epochs: completed epochs.
        best_knn: best online k-NN accuracy, in percent.
        last: its last metrics.
        value: the objective, where the sweep says so.
        params: its hyperparameters, where the sweep says so.
        reason: why it ended, for people, where the sweep says so.
    """

    number: int
    state: str
    epochs: int
    best_knn: float | None
    last: dict[str, float]
    value: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class SweepRecord:
    """What a sweep's directory tells.

    Args:
        path: its directory.
        space: the search space, as plain values.
        base: what every trial starts from.
        state: running, completed or interrupted.
        trials: those that have begun, by number.
    """

    path: Path
    space: dict[str, Any]
    base: dict[str, Any]
    state: str
    trials: list[TrialRecord]

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.base["method"]["name"])

    @property
    def trials_wanted(self) -> int:
        """Trials there are to be."""
        return int(self.space["trials"])

    @property
    def ended(self) -> int:
        """Trials that have ended, for whatever reason."""
        return sum(trial.state not in _UNFINISHED for trial in self.trials)

    @property
    def states(self) -> dict[str, int]:
        """Number of trials by state."""
        return dict(Counter(trial.state for trial in self.trials))


def read_sweep(path: Path) -> SweepRecord:
    """Read a sweep's space and the records of its trials.

    Raises:
        InputError: a file of it cannot be read.
    """
    file = path / "space.yaml"
    try:
        values = yaml.parse(file.read_text(encoding="utf-8"), str(file))
        space, base = values["space"], values["base"]
        space["trials"], base["method"]["name"]
        runs = {int(trial.name): _trial(trial) for trial in trial_paths(path)}
        for entry in _entries(path):
            runs[int(entry["number"])] = _merged(entry, runs.get(int(entry["number"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {type(error).__name__}: {error}") from None
    return SweepRecord(path, space, base, _state(path), [runs[number] for number in sorted(runs)])


def _entries(path: Path) -> list[dict[str, Any]]:
    """Return what the sweep wrote about its trials: nothing before one has ended."""
    file = path / "trials.json"
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []


def _merged(entry: dict[str, Any], run: TrialRecord | None) -> TrialRecord:
    state, cause = str(entry["state"]), str(entry["cause"])
    params, reason, value = dict(entry["params"]), str(entry["reason"]), entry["value"]
    run = run or TrialRecord(int(entry["number"]), state, int(entry["epoch"]), None, {})
    if state == "running":  # the run itself knows more: it may have gone on, or been interrupted
        return replace(run, params=params)
    if state == "failed":
        state = f"failed ({cause})"
    return replace(run, state=state, epochs=int(entry["epoch"]), value=value, params=params, reason=reason)


def _trial(path: Path) -> TrialRecord:
    from raysl.train.rundir import RunDirectory  # imported here: listing an empty folder needs none of it

    run = RunDirectory(path)
    rows, state = run.metrics(), state_word(run.status())
    scores = [row["metrics"][KNN] for row in rows if KNN in row["metrics"]]
    last = rows[-1]["metrics"] if rows else {}
    return TrialRecord(int(path.name), state, len(rows), max(scores, default=None), last)


def _state(path: Path) -> str:
    """Tell from the driver's lease, which it renews every few seconds and empties when it ends."""
    lease = path / "lease.json"
    if lease.is_file() and lease.stat().st_size and time.time() - lease.stat().st_mtime < _LEASE_EXPIRY_S:
        return "running"
    return "completed" if (path / "best.yaml").is_file() else "interrupted"
