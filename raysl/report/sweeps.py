"""A sweep as its directory tells it; the ledger itself is only read by who drives the sweep.

Why and with which hyperparameters a trial ended, the sweep writes for us into `trials.json`.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raysl.config import yaml
from raysl.errors import InputError
from raysl.report.records import KNN, state_word, sweep_rows, trial_paths

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
        role: what it is for, where it is no configuration of its own, such as `trial 3, seed +1`.
        audited: whether it lost at a rung and ran on.
        seeds: of the chosen trial, the objective with each of its seeds; else none.
    """

    number: int
    state: str
    epochs: int
    best_knn: float | None
    last: dict[str, float]
    value: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    role: str = ""
    audited: bool = False
    seeds: tuple[float, ...] = ()

    @property
    def described(self) -> str:
        """Its state, and what is special about it."""
        marks = [self.role, "audited" if self.audited else "", "chosen" if self.seeds else ""]
        return "; ".join([self.state, *(mark for mark in marks if mark)])


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
        """Configurations there are to be; repeats and promotions come on top."""
        return int(self.space["trials"])

    @property
    def ended(self) -> int:
        """Configurations whose trial has ended, for whatever reason."""
        return sum(trial.state not in _UNFINISHED for trial in self.searched)

    @property
    def searched(self) -> list[TrialRecord]:
        """Trials that are configurations of their own."""
        return [trial for trial in self.trials if not trial.role]

    @property
    def objective(self) -> dict[str, Any]:
        """The objective that names the best trial."""
        said = self.space["objective"]
        return dict(said[0] if isinstance(said, list) else said)

    @property
    def chosen(self) -> TrialRecord | None:
        """The trial that the sweep recommends, where it says so."""
        return next((trial for trial in self.trials if trial.seeds), None)

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
        for entry in sweep_rows(path):
            runs[int(entry["number"])] = _merged(entry, runs.get(int(entry["number"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {type(error).__name__}: {error}") from None
    return SweepRecord(path, space, base, _state(path), [runs[number] for number in sorted(runs)])


def _merged(entry: dict[str, Any], run: TrialRecord | None) -> TrialRecord:
    state, cause = str(entry["state"]), str(entry["cause"])
    params, reason, value = dict(entry["params"]), str(entry["reason"]), entry["value"]
    run = run or TrialRecord(int(entry["number"]), state, int(entry["epoch"]), None, {})
    run = replace(
        run,
        params=params,
        role=_role(entry.get("role") or {}),
        audited=bool(entry.get("audited")),
        seeds=tuple(entry.get("chosen") or ()),
    )
    if state == "running":  # the run itself knows more: it may have gone on, or been interrupted
        return run
    if state == "failed":
        state = f"failed ({cause})"
    return replace(run, state=state, epochs=int(entry["epoch"]), value=value, reason=reason)


def _role(role: dict[str, Any]) -> str:
    what = {"repeat": f"seed +{role.get('seed')}", "promotion": "promoted"}.get(str(role.get("kind")))
    return "" if what is None else f"trial {role.get('of')}, {what}"


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
