"""One trial as the ledger knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from optuna.distributions import BaseDistribution

from raysl.tune.spaces.domains import Scalar

State = Literal["running", "complete", "pruned", "failed"]
Kind = Literal["search", "repeat", "promotion"]


@dataclass(frozen=True)
class Role:
    """What a trial is for.

    Args:
        kind: `search`, a configuration of its own; `repeat`, another seed of one; `promotion`, one in the
            next, dearer form.
        of: number of the trial whose parameters it has; None for `search`.
        seed: added to the recipe's `train.seed`.
        fidelity: in which form it runs: 0 is the cheapest proxy, the last the whole trial.
    """

    kind: Kind = "search"
    of: int | None = None
    seed: int = 0
    fidelity: int = 0


SEARCH = Role()


@dataclass(frozen=True)
class Report:
    """The record of an epoch.

    Args:
        epoch: completed epochs, from 1.
        value: the metric that stopping compares; None where it was not measured.
        time: Unix time at which the trial recorded it.
        fence: the attempt that reported it.
        metrics: all its metrics.
        stop: what was decided: why to stop, or None to go on.
        peers: numbers of the trials it was compared with.
        audit: why it ought to stop and yet runs on, to show what its rung is worth.
        ends: `pruned` or `failed` where it is the trial's last.
        cause: `pruned` or what the trial failed of, where it is the trial's last.
        note: what the stopping rule said, whatever it decided.
        seq: its place among all facts of the ledger.
    """

    epoch: int
    value: float | None
    time: float
    fence: int
    metrics: dict[str, float]
    stop: str | None = None
    peers: tuple[int, ...] = ()
    audit: str | None = None
    ends: State | None = None
    cause: str = ""
    note: str = ""
    seq: int = 0


@dataclass(frozen=True)
class Death:
    """The end of an attempt that was not the end of the trial.

    Args:
        fence: the attempt.
        time: Unix time at which it was noticed.
        cause: `killed`, `oom` or `error`.
        detail: what is known, for people.
    """

    fence: int
    time: float
    cause: str
    detail: str


@dataclass(frozen=True)
class Session:
    """One start of a sweep's driver.

    Args:
        started: Unix time.
        slots: trials at a time.
        cpus: CPUs of a trial, all its processes together.
        gpus: GPUs of a trial, all its processes together.
        changeable: what of the search space may differ from one start to the next, and was then in force.
        seq: the last fact of the ledger before it.
    """

    started: float
    slots: int
    cpus: float
    gpus: float
    changeable: dict[str, Any] = field(default_factory=dict)
    seq: int = 0


@dataclass
class Entry:
    """One trial as the ledger knows it.

    Args:
        number: its number, which is also its directory's name.
        params: suggested values, fixed for good.
        distributions: the domains they come from.
        role: what it is for.
        state: running, complete, pruned or failed.
        reports: its reports, epochs contiguous from 1.
        launches: Unix times at which its attempts began.
        deaths: attempts whose process died.
        values: the objectives of a complete trial, in their order.
        cause: why it ended: a word.
        reason: why it ended: a sentence.
        ended: Unix time of its end.
        end_seq: place of its end among all facts of the ledger.
        asked_seq: place of its suggestion.
        rejected: suggestions before it that broke a constraint.
        saw: what its suggestion saw, for people.
        system_attrs: what the sampler keeps with it.
    """

    number: int
    params: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    role: Role = SEARCH
    state: State = "running"
    reports: list[Report] = field(default_factory=list)
    launches: list[float] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    values: tuple[float, ...] | None = None
    cause: str = ""
    reason: str = ""
    ended: float | None = None
    end_seq: int | None = None
    asked_seq: int = 0
    rejected: int = 0
    saw: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """The first objective of a complete trial."""
        return None if self.values is None else self.values[0]

    @property
    def fence(self) -> int:
        """Number of its latest attempt; 0 before the first."""
        return len(self.launches)

    @property
    def epoch(self) -> int:
        """Completed epochs on record."""
        return len(self.reports)

    @property
    def curve(self) -> dict[int, float]:
        """What stopping compares, by epoch, where it was measured."""
        return {report.epoch: report.value for report in self.reports if report.value is not None}

    @property
    def audited(self) -> bool:
        """Whether it lost at a rung and ran on."""
        return any(report.audit is not None for report in self.reports)


def record_at(trials: Sequence[Entry], seq: int) -> list[Entry]:
    """Return the record as it was before a fact: what came before it and nothing else."""
    return [_entry_at(entry, seq) for entry in trials if entry.asked_seq < seq]


def _entry_at(entry: Entry, seq: int) -> Entry:
    if entry.end_seq is not None and entry.end_seq < seq:
        return entry
    reports = [report for report in entry.reports if report.seq < seq]
    return replace(
        entry, state="running", reports=reports, values=None, cause="", reason="", ended=None, end_seq=None
    )
