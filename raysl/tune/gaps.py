"""How long the slots of a sweep stood idle: from a trial's end to its successor's first optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysl.tune.entry import Entry

FIRST_STEP = "time/first_step"


@dataclass(frozen=True)
class Gap:
    """The time between an attempt and the one that took its slot.

    Args:
        trial: the trial that made room.
        successor: the trial that took its slot; the same one where its process was killed.
        after: how the attempt ended: `complete`, `pruned`, a failure's cause, or a death's.
        since_report: seconds from its last report (none: its launch) to the successor's first optimizer step.
        since_end: the same from the moment its end was on record, for a failure some time after that report.
    """

    trial: int
    successor: int
    after: str
    since_report: float
    since_end: float


def gaps(trials: Sequence[Entry]) -> list[Gap]:
    """Pair each end with the next launch after it, in the order of the launches.

    The first launches of a driver's life have no predecessor; attempts that took no step are passed over.
    """
    ends = sorted(_ends(trials))
    launches = sorted(
        (launched, entry, number + 1) for entry in trials for number, launched in enumerate(entry.launches)
    )
    found: list[Gap] = []
    for launched, entry, fence in launches:
        earlier = [end for end in ends if end[0] <= launched]
        if not earlier:
            continue
        ended, reported, trial, after = earlier[-1]
        ends.remove(earlier[-1])
        stepped = _first_step(entry, fence)
        if stepped is not None:
            found.append(Gap(trial, entry.number, after, stepped - reported, stepped - ended))
    return found


def _ends(trials: Sequence[Entry]) -> list[tuple[float, float, int, str]]:
    """Return (end on record, last report, trial, how) of every attempt that made room for another."""
    found = []
    for entry in trials:
        for death in entry.deaths:
            found.append((death.time, _reported(entry, death.fence), entry.number, death.cause))
        last_died = bool(entry.deaths) and entry.deaths[-1].fence == entry.fence
        if entry.ended is not None and not last_died:
            found.append((entry.ended, _reported(entry, entry.fence), entry.number, entry.cause))
    return found


def _reported(entry: Entry, fence: int) -> float:
    times = [report.time for report in entry.reports if report.fence == fence]
    return times[-1] if times else entry.launches[fence - 1]


def _first_step(entry: Entry, fence: int) -> float | None:
    launched = entry.launches[fence - 1]
    steps = [report.metrics[FIRST_STEP] for report in entry.reports if FIRST_STEP in report.metrics]
    return next((step for step in steps if step >= launched), None)
