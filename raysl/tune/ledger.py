"""The ledger: an Optuna study of every suggestion, report, stop and failure, written before it is acted on.

Each fact is one write, so a crash leaves it whole or absent: a trial appears with all its parameters, a
report with its decision, an end with its cause. What a crash can leave between two writes is settled on
opening. There is one writer, the holder of the sweep's lease; a copy of the record is kept in memory and the
storage is read once.

Attributes of an Optuna trial: `saw`, `launch:001`, `report:00001`, `death:001`, `end`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from raysl.errors import RayslError
from raysl.tune.entry import Death, Entry, Report, State
from raysl.tune.lease import Lease
from raysl.tune.resolve import Space
from raysl.tune.stopping import Decision
from raysl.tune.storage import Direction, open_storage, open_study
from raysl.tune.suggest import suggest

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
        where: path of the journal file, or a database URL.
        name: name of the study.
        direction: `maximize` or `minimize`.
        epochs: epochs of a whole trial.
        lease: the sweep's lease, already taken.

    Raises:
        InputError: the storage cannot be opened.
        RayslError: the journal is damaged before its last line.
    """

    def __init__(self, where: str | Path, name: str, direction: Direction, epochs: int, lease: Lease) -> None:
        self._lease, self._epochs = lease, epochs
        self._storage = open_storage(where)
        self._study = open_study(self._storage, name, direction)
        self._study_id = self._storage.get_study_id_from_name(name)
        self.trials: list[Entry] = [_read(trial) for trial in self._study.get_trials(deepcopy=False)]
        for entry in self.trials:
            self._settle(entry)

    def running(self) -> list[Entry]:
        """Return the trials that have not ended, by number."""
        return [entry for entry in self.trials if entry.state == "running"]

    def curves(self) -> dict[int, dict[int, float]]:
        """Return all curves on record, by trial."""
        return {entry.number: entry.curve for entry in self.trials}

    def ask(self, space: Space) -> Entry:
        """Suggest the next trial and put it on record, with all its parameters, in one write."""
        number = len(self.trials)
        found = suggest(space, number, self.trials)
        saw = _sight(self.trials) | {"rejected": found.rejected}
        self._lease.check()
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=found.params,
                distributions=found.distributions,
                user_attrs={"saw": saw},
                system_attrs=found.system_attrs,
            )
        )
        entry = Entry(number, found.params, found.distributions, saw=saw, system_attrs=found.system_attrs)
        self.trials.append(entry)
        return entry

    def launch(self, number: int) -> int:
        """Begin an attempt and return its fence.

        Whatever earlier attempts still say is refused from now on.
        """
        entry = self._running(number)
        now = time.time()
        self._attribute(entry, f"launch:{entry.fence + 1:03d}", now)
        entry.launches.append(now)
        return entry.fence

    def report(
        self, number: int, epoch: int, value: float | None, metrics: Mapping[str, float], *,
        fence: int, at: float, decision: Decision,
    ) -> None:  # fmt: skip
        """Put an epoch on record together with what is decided about it.

        Args:
            number: the trial.
            epoch: completed epochs; one more than on record.
            value: the objective, None where it was not measured.
            metrics: all metrics.
            fence: the attempt that reports.
            at: Unix time at which the trial recorded it.
            decision: the stopping rule's answer.

        Raises:
            LedgerError: the attempt is over, the trial has ended, or the epoch does not follow the last.
        """
        entry = self._running(number)
        if fence != entry.fence:
            raise LedgerError(
                f"trial {number}: attempt {fence} reports, but attempt {entry.fence} is the one running"
            )
        if epoch != entry.epoch + 1:
            raise LedgerError(f"trial {number}: epoch {epoch} reported after epoch {entry.epoch}")
        stop = decision.reason if decision.stop else None
        report = Report(epoch, value, at, fence, dict(metrics), stop, decision.peers)
        if value is not None:
            # Optuna's own copy, for its tools; the report below is the record.
            self._lease.check()
            self._storage.set_trial_intermediate_value(self._id(number), epoch, value)
        self._attribute(entry, f"report:{epoch:05d}", asdict(report))
        entry.reports.append(report)

    def conclude(self, number: int) -> bool:
        """End a trial if its last report says so, and return whether it did.

        An objective that is not finite fails the trial, its last epoch completes it, and the stopping rule
        prunes it, in this order.
        """
        entry = self._running(number)
        if not entry.reports:
            return False
        last = entry.reports[-1]
        if last.value is not None and not math.isfinite(last.value):
            cause = "nan" if math.isnan(last.value) else "inf"
            self.fail(number, cause, f"the objective is {last.value} at epoch {last.epoch}")
        elif last.epoch >= self._epochs:
            self.complete(number)
        elif last.stop is not None:
            self.prune(number, last.stop)
        else:
            return False
        return True

    def complete(self, number: int) -> None:
        """End a trial whose last epoch is on record; its value is the objective there."""
        entry = self._running(number)
        value = entry.reports[-1].value if entry.reports else None
        if value is None or not math.isfinite(value):
            raise LedgerError(f"trial {number}: no objective at its last epoch, {entry.epoch}")
        self._end(entry, "complete", "complete", f"value {value:.6g} at epoch {entry.epoch}", value)

    def prune(self, number: int, reason: str) -> None:
        """End a trial that is not worth going on with."""
        self._end(self._running(number), "pruned", "pruned", reason)

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
        death = Death(entry.fence, time.time(), cause, detail)
        self._attribute(entry, f"death:{len(entry.deaths) + 1:03d}", asdict(death))
        entry.deaths.append(death)
        if len(entry.deaths) < attempts:
            return True
        self.fail(number, cause, f"its process died {len(entry.deaths)} times, the last time: {detail}")
        return False

    def _running(self, number: int) -> Entry:
        if not 0 <= number < len(self.trials):
            raise LedgerError(f"trial {number}: not on record")
        entry = self.trials[number]
        if entry.state != "running":
            raise LedgerError(f"trial {number}: has ended ({entry.state})")
        return entry

    def _end(self, entry: Entry, state: State, cause: str, reason: str, value: float | None = None) -> None:
        """Write the cause, then the state that makes it final."""
        end = {"state": state, "cause": cause, "reason": reason, "value": value, "time": time.time()}
        self._attribute(entry, "end", end)
        self._finish(entry, end)

    def _finish(self, entry: Entry, end: Mapping[str, Any]) -> None:
        values = None if end["value"] is None else [end["value"]]
        self._lease.check()
        self._storage.set_trial_state_values(self._id(entry.number), _STATES[end["state"]], values)
        _apply_end(entry, end)

    def _settle(self, entry: Entry) -> None:
        """Finish what a crash cut off: an end without its state, a last report without its end."""
        if entry.state != "running":
            return
        trial = self._study.get_trials(deepcopy=False)[entry.number]
        if "end" in trial.user_attrs:
            self._finish(entry, trial.user_attrs["end"])
        else:
            self.conclude(entry.number)

    def _attribute(self, entry: Entry, key: str, value: Any) -> None:
        self._lease.check()
        self._storage.set_trial_user_attr(self._id(entry.number), key, value)

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


def _read(trial: FrozenTrial) -> Entry:
    attrs = trial.user_attrs
    entry = Entry(trial.number, dict(trial.params), dict(trial.distributions))
    entry.saw, entry.system_attrs = dict(attrs.get("saw", {})), dict(trial.system_attrs)
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
    entry.value, entry.ended = end["value"], end["time"]
