"""The ledger: an Optuna study of every suggestion, report, stop and failure, written before it is acted on.

Each fact is one write, so a crash leaves it whole or absent: a trial appears with all its parameters, a
report with its decision, an end with its cause. What a crash can leave between two writes is settled on
opening. There is one writer, the holder of the sweep's lease; a copy of the record is kept in memory and the
storage is read once. Suggestions, reports and ends are numbered (`seq`), so that the record can be rebuilt as
it was before any of them.

Attributes of an Optuna trial: `asked`, `launch:001`, `report:00001`, `death:001`, `end`; of the study:
`session:001`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from raysl.errors import RayslError
from raysl.tune.agenda import Proposal
from raysl.tune.records.entry import Death, Entry, Report, Role, Session, State
from raysl.tune.records.lease import Holds
from raysl.tune.records.storage import open_storage, open_study
from raysl.tune.spaces.resolve import Space

_STATES: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class LedgerError(RayslError):
    """What was to be written contradicts the record."""


class Ledger:
    """A sweep's record. Only the holder of the lease may have one.

    Args:
        where: path of the journal file, a database URL, or a storage that is open.
        name: name of the study.
        space: the search space.
        lease: the sweep's lease, already taken.
        clock: tells the time.

    Raises:
        InputError: the storage cannot be opened.
        RayslError: the journal is damaged before its last line.
    """

    def __init__(
        self,
        where: str | Path | BaseStorage,
        name: str,
        space: Space,
        lease: Holds,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lease, self._space, self.clock = lease, space, clock
        self._storage = where if isinstance(where, BaseStorage) else open_storage(where)
        self._study = open_study(self._storage, name, [one.direction for one in space.config.objective])
        self._study_id = self._storage.get_study_id_from_name(name)
        self.trials, self.sessions = read_study(self._study)
        self._seq = max((seq for entry in self.trials for seq in _seqs(entry)), default=0)
        for entry in self.trials:
            self._settle(entry)

    def open_session(self, session: Session) -> None:
        """Put on record that a driver has started."""
        self._lease.check()
        key, facts = f"session:{len(self.sessions) + 1:03d}", asdict(replace(session, seq=self._seq))
        self._storage.set_study_user_attr(self._study_id, key, facts)
        self.sessions.append(Session(**facts))

    def running(self) -> list[Entry]:
        """Return the trials that have not ended, by number."""
        return [entry for entry in self.trials if entry.state == "running"]

    def ask(self, proposal: Proposal) -> Entry:
        """Put the next trial on record, with all its parameters, in one write."""
        asked = {
            "seq": self._next_seq(),
            "role": asdict(proposal.role),
            "rejected": proposal.rejected,
            "saw": _sight(self.trials),
        }
        self._lease.check()
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=proposal.params,
                distributions=proposal.distributions,
                user_attrs={"asked": asked},
                system_attrs=proposal.system_attrs,
            )
        )
        entry = _read(self._study.get_trials(deepcopy=False)[len(self.trials)])
        self.trials.append(entry)
        return entry

    def launch(self, number: int) -> int:
        """Begin an attempt and return its fence.

        Whatever earlier attempts still say is refused from now on.
        """
        entry = self._running(number)
        now = self.clock()
        self._attribute(entry, f"launch:{entry.fence + 1:03d}", now)
        entry.launches.append(now)
        return entry.fence

    def report(self, number: int, report: Report) -> None:
        """Put an epoch on record together with what is decided about it.

        Raises:
            LedgerError: the attempt is over, the trial has ended, or the epoch does not follow the last.
        """
        entry = self._running(number)
        if report.fence != entry.fence:
            raise LedgerError(
                f"trial {number}: attempt {report.fence} reports, but attempt {entry.fence} is running"
            )
        if report.epoch != entry.epoch + 1:
            raise LedgerError(f"trial {number}: epoch {report.epoch} reported after epoch {entry.epoch}")
        report = replace(report, seq=self._next_seq())
        if report.value is not None and len(self._space.config.objective) == 1:
            # Optuna's own copy, for its tools; the report below is the record.
            self._lease.check()
            self._storage.set_trial_intermediate_value(self._id(number), report.epoch, report.value)
        self._attribute(entry, f"report:{report.epoch:05d}", asdict(report))
        entry.reports.append(report)

    def conclude(self, number: int) -> bool:
        """End a trial if its last report says so, and return whether it did."""
        entry = self._running(number)
        if not entry.reports:
            return False
        last = entry.reports[-1]
        if last.ends is not None:
            self._end(entry, last.ends, last.cause, last.stop or "")
        elif last.epoch >= self._space.epochs_of(entry.role.fidelity):
            self.complete(number)
        else:
            return False
        return True

    def complete(self, number: int) -> None:
        """End a trial whose last epoch is on record; its values are the objectives there.

        A metric that is not there, or not finite, fails it.
        """
        entry = self._running(number)
        metrics = entry.reports[-1].metrics if entry.reports else {}
        wanted = [one.metric for one in self._space.config.objective]
        values = [metrics.get(metric, math.nan) for metric in wanted]
        for metric, value in zip(wanted, values, strict=True):
            if not math.isfinite(value):
                said = f"is {value}" if metric in metrics else "was not measured"
                self.fail(number, "nan", f"{metric} {said} at the last epoch, {entry.epoch}")
                return
        shown = ", ".join(f"{value:.6g}" for value in values)
        self._end(entry, "complete", "complete", f"value {shown} at epoch {entry.epoch}", values)

    def fail(self, number: int, cause: str, reason: str) -> None:
        """End a trial that cannot go on.

        Args:
            number: the trial.
            cause: `nan`, `inf`, `collapse`, `oom`, `error` or `killed`.
            reason: a sentence for people.
        """
        self._end(self._running(number), "failed", cause, reason)

    def died(self, number: int, cause: str, detail: str, *, attempts: int) -> bool:
        """Record that an attempt's process died; the trial fails with the last of its attempts.

        Attempts that ended with the driver do not count: they are over, but nothing was wrong with them.

        Returns:
            Whether the trial is to be launched again.
        """
        entry = self._running(number)
        death = Death(entry.fence, self.clock(), cause, detail)
        self._attribute(entry, f"death:{len(entry.deaths) + 1:03d}", asdict(death))
        entry.deaths.append(death)
        if len(entry.deaths) < attempts:
            return True
        self._fail_of_deaths(entry)
        return False

    def _fail_of_deaths(self, entry: Entry) -> None:
        last, times = entry.deaths[-1], len(entry.deaths)
        self.fail(entry.number, last.cause, f"its process died {times} times, the last time: {last.detail}")

    def _running(self, number: int) -> Entry:
        if not 0 <= number < len(self.trials):
            raise LedgerError(f"trial {number}: not on record")
        entry = self.trials[number]
        if entry.state != "running":
            raise LedgerError(f"trial {number}: has ended ({entry.state})")
        return entry

    def _end(
        self, entry: Entry, state: State, cause: str, reason: str, values: list[float] | None = None
    ) -> None:
        """Write the cause, then the state that makes it final."""
        end = {
            "state": state, "cause": cause, "reason": reason, "values": values,
            "time": self.clock(), "seq": self._next_seq(),
        }  # fmt: skip
        self._attribute(entry, "end", end)
        self._finish(entry, end)

    def _finish(self, entry: Entry, end: Mapping[str, Any]) -> None:
        self._lease.check()
        self._storage.set_trial_state_values(self._id(entry.number), _STATES[end["state"]], end["values"])
        _apply_end(entry, end)

    def _settle(self, entry: Entry) -> None:
        """Finish what a crash cut off: an end without its state, a last report without its end."""
        if entry.state != "running":
            return
        trial = self._study.get_trials(deepcopy=False)[entry.number]
        if "end" in trial.user_attrs:
            end = trial.user_attrs["end"]
            # Its number is taken, though the record that was read does not have it yet.
            self._seq = max(self._seq, end["seq"])
            self._finish(entry, end)
        elif not self.conclude(entry.number) and len(entry.deaths) >= self._space.config.attempts:
            self._fail_of_deaths(entry)

    def _attribute(self, entry: Entry, key: str, value: Any) -> None:
        self._lease.check()
        self._storage.set_trial_user_attr(self._id(entry.number), key, value)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _sight(trials: list[Entry]) -> dict[str, Any]:
    """Say what a suggestion sees: trials that have ended, whole, and the others up to their last report."""
    return {
        "ended": _ranges([entry.number for entry in trials if entry.state != "running"]),
        "running": {str(entry.number): entry.epoch for entry in trials if entry.state == "running"},
    }


def _ranges(numbers: list[int]) -> str:
    """Write sorted numbers shortly: `0-11,13`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(str(number) for number in part) for part in parts)


def read_study(study: Study) -> tuple[list[Entry], list[Session]]:
    """Return the record that a study holds: its trials, by number, and the starts of its driver."""
    attrs = study.user_attrs
    sessions = [Session(**attrs[key]) for key in sorted(attrs) if key.startswith("session:")]
    return [_read(trial) for trial in study.get_trials(deepcopy=False)], sessions


def _read(trial: FrozenTrial) -> Entry:
    attrs = trial.user_attrs
    asked = attrs["asked"]
    entry = Entry(
        trial.number,
        dict(trial.params),
        dict(trial.distributions),
        Role(**asked["role"]),
        asked_seq=asked["seq"],
        rejected=asked["rejected"],
        saw=asked["saw"],
        system_attrs=dict(trial.system_attrs),
    )
    for key in sorted(attrs):
        if key.startswith("report:"):
            entry.reports.append(Report(**{**attrs[key], "peers": tuple(attrs[key]["peers"])}))
        elif key.startswith("launch:"):
            entry.launches.append(attrs[key])
        elif key.startswith("death:"):
            entry.deaths.append(Death(**attrs[key]))
    if trial.state.is_finished():
        _apply_end(entry, attrs["end"])
    return entry


def _apply_end(entry: Entry, end: Mapping[str, Any]) -> None:
    entry.state, entry.cause, entry.reason = end["state"], end["cause"], end["reason"]
    entry.ended, entry.end_seq = end["time"], end["seq"]
    entry.values = None if end["values"] is None else tuple(end["values"])


def _seqs(entry: Entry) -> Iterator[int]:
    yield entry.asked_seq
    yield from (report.seq for report in entry.reports)
    if entry.end_seq is not None:
        yield entry.end_seq
