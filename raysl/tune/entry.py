"""One trial as the ledger knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.distributions import BaseDistribution

from raysl.tune.space import Scalar

State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Report:
    """The record of an epoch.

    Args:
        epoch: completed epochs, from 1.
        value: the objective; None where it was not measured.
        time: Unix time at which the trial recorded it.
        fence: the attempt that reported it.
        metrics: all its metrics.
        stop: what the stopping rule said: a reason to stop, or None to go on.
        peers: numbers of the trials it was compared with.
    """

    epoch: int
    value: float | None
    time: float
    fence: int
    metrics: dict[str, float]
    stop: str | None = None
    peers: tuple[int, ...] = ()


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


@dataclass
class Entry:
    """One trial as the ledger knows it.

    Args:
        number: its number, which is also its directory's name.
        params: suggested values, fixed for good.
        distributions: the domains they come from.
        state: running, complete, pruned or failed.
        reports: its reports, epochs contiguous from 1.
        launches: Unix times at which its attempts began.
        deaths: attempts whose process died.
        value: the objective of a complete trial.
        cause: why it ended: a word.
        reason: why it ended: a sentence.
        ended: Unix time of its end.
        saw: what its suggestion saw.
        system_attrs: what the sampler keeps with it.
    """

    number: int
    params: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    state: State = "running"
    reports: list[Report] = field(default_factory=list)
    launches: list[float] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    value: float | None = None
    cause: str = ""
    reason: str = ""
    ended: float | None = None
    saw: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)

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
        """The objective by epoch, where it was measured."""
        return {report.epoch: report.value for report in self.reports if report.value is not None}
