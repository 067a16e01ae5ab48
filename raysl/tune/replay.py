"""Goes through a sweep's record again and decides everything anew, to show that it says what was decided.

Every suggestion and every decision is a pure function of what was on record before it, so each is computed
again from exactly that and compared bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raysl.tune.agenda import Answer, Proposal, propose
from raysl.tune.judging.judge import judge
from raysl.tune.judging.rungs import rule_of
from raysl.tune.records.entry import Entry, Report, record_at
from raysl.tune.records.record import Record, read_record
from raysl.tune.spaces.resolve import Space


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Args:
        suggestions: trials whose parameters were computed again.
        decisions: reports that were decided about again.
        differences: what came out otherwise, one line each; empty where the record holds.
    """

    suggestions: int
    decisions: int
    differences: tuple[str, ...]

    def describe(self) -> str:
        """Return it for people."""
        what = f"{self.suggestions} suggestions and {self.decisions} decisions computed again"
        if not self.differences:
            return f"{what}: all equal to the bit"
        return "\n".join([f"{what}: {len(self.differences)} differ", *self.differences])


def replay(directory: str | Path) -> Replay:
    """Replay a sweep from its directory; nothing is written.

    Raises:
        InputError: the directory holds no sweep.
    """
    return replay_record(read_record(directory))


def replay_record(record: Record) -> Replay:
    """Replay a sweep from its record."""
    reports = [(entry, report) for entry in record.trials for report in entry.reports]
    spaces = _Spaces(record)
    differences = [line for entry in record.trials for line in _check_suggestion(record, spaces, entry)]
    for entry, report in reports:
        differences += _check_decision(record, spaces, entry, report)
    return Replay(len(record.trials), len(reports), tuple(differences))


class _Spaces:
    """The search spaces of a record, each made once."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._made: dict[int, Space] = {}

    def at(self, seq: int) -> Space:
        started = sum(session.seq < seq for session in self._record.sessions)
        if started not in self._made:
            self._made[started] = self._record.space_at(seq)
        return self._made[started]


def _check_suggestion(record: Record, spaces: _Spaces, entry: Entry) -> Iterator[str]:
    found = propose(spaces.at(entry.asked_seq), record_at(record.trials, entry.asked_seq))
    if isinstance(found, Answer):
        yield f"trial {entry.number}: on record, but nothing was to be asked then ({found.value})"
        return
    kept = Proposal(entry.params, entry.distributions, entry.role, entry.rejected, entry.system_attrs)
    yield from _differences(f"trial {entry.number}", vars(kept), vars(found))


def _check_decision(record: Record, spaces: _Spaces, entry: Entry, report: Report) -> Iterator[str]:
    space = spaces.at(report.seq)
    rule = rule_of(space.config, space.epochs)
    bare = Report(report.epoch, report.value, report.time, report.fence, report.metrics)
    again = judge(space, rule, record_at(record.trials, report.seq), entry.number, bare)
    again = replace(again, seq=report.seq)
    yield from _differences(f"trial {entry.number} epoch {report.epoch}", vars(report), vars(again))


def _differences(where: str, kept: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for name, value in kept.items():
        # As text, because NaN differs from itself.
        if repr(value) != repr(found[name]):
            yield f"{where}: {name} {value!r} on record, {found[name]!r} computed again"
