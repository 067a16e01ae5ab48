"""Between the ledger and Ray Tune: what to run next, and what to do about each message.

Tune's searcher and scheduler are two thin adapters over this one object, which makes every decision and
writes it to the ledger before it lets Tune act.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from raysl.errors import InputError
from raysl.tune.agenda import Answer, propose
from raysl.tune.budget import spent
from raysl.tune.judging.history import Rule
from raysl.tune.judging.judge import judge
from raysl.tune.records.entry import Entry, Report
from raysl.tune.records.lease import LeaseLostError
from raysl.tune.records.ledger import Ledger
from raysl.tune.spaces.resolve import Space
from raysl.tune.trials.messages import End, Launch, Row
from raysl.tune.trials.standby import Standby

_COUNT_S = 1.0
"""Seconds between two looks at the budget while nothing is reported; each report is a look too."""


@dataclass
class Bridge:
    """Decides.

    Args:
        ledger: the record.
        space: the search space.
        rule: the stopping rule.
        directory: the sweep's directory.
        slots: trials at a time.
        threads: CPU threads of a trial.
        changed: told after every change, for the table; None when a trial is launched or reports, else the
            trial that ended.
        stopped: whether the sweep is to stop as soon as its trials have saved.
        standby: takes the trial up whose process died.
    """

    ledger: Ledger
    space: Space
    rule: Rule
    directory: Path
    slots: int
    threads: int = 1
    changed: Callable[[Entry | None], None] = lambda entry: None
    stopped: Callable[[], bool] = lambda: False
    standby: Standby | None = None
    live: dict[str, Launch] = field(default_factory=dict)
    fatal: Exception | None = None
    exhausted: str | None = None
    """Which limit of the budget is reached."""
    _missing: int = 0
    _next_count: float = -math.inf

    @property
    def stop_file(self) -> Path:
        """The file whose appearance tells all trials to save at the next step."""
        return self.directory / ".tune" / "stop"

    def next(self, key: str) -> Launch | Answer:
        """Return the next attempt to run under Tune's key for it.

        Trials that were running come first, by number, with the parameters they have; then new ones are
        suggested.
        """
        if self.is_over():
            return Answer.LATER if self.live else Answer.NEVER
        if len(self.live) >= self.slots:
            return Answer.LATER
        held = {launch.number for launch in self.live.values()}
        waiting = [entry for entry in self.ledger.running() if entry.number not in held]
        try:
            entry = waiting[0] if waiting else self._ask()
            if isinstance(entry, Answer):
                return Answer.LATER if self.live else entry
            launch = Launch(
                number=entry.number,
                fence=self.ledger.launch(entry.number),
                recorded=entry.epoch,
                directory=str(self.directory.absolute() / "trials" / str(entry.number)),
                config=self.space.trial_config(entry),
                fidelity=entry.role.fidelity,
                threads=self.threads,
                stop_file=str(self.stop_file.absolute()),
            )
        except Exception as error:  # Tune would print a trace and go on; the sweep is to end with this error
            return self._give_up(error)
        if self.standby is not None and self._missing:
            launch = self.standby.take(launch)
            self._missing -= 1
        self.live[key] = launch
        self.changed(None)
        return launch

    def is_over(self) -> bool:
        """Tell whether nothing is to begin any more; running trials are told of a limit or a request."""
        if self.ledger.clock() >= self._next_count:
            self._watch_budget()
        if self._halting:
            self._stop_trials()
        return self.fatal is not None or self._halting

    def withdraw(self, key: str) -> None:
        """Take an attempt back that waits for room; its trial goes on when the sweep does."""
        launch = self.live.get(key)
        if launch is not None:
            self._release(key, launch)

    def receive(self, key: str, number: int, fence: int, message: Row | End) -> bool:
        """Put a message on record and return whether the trial stops here; its slot is free if so."""
        launch = self.live.get(key)
        if launch is None:
            return True
        if (launch.number, launch.fence) != (number, fence) or self.fatal is not None:
            self._release(key, launch)
            return True
        try:
            ended = self._end(launch, message) if isinstance(message, End) else self._row(launch, message)
        except Exception as error:  # as above
            self._give_up(error)
            ended = True
        if self.standby is not None:
            self.standby.warm()
        if ended:
            self._release(key, launch)
        entry = self.ledger.trials[number]
        # An attempt that was interrupted has ended, but its trial has not.
        self.changed(None if entry.state == "running" else entry)
        return ended

    def lost(self, key: str, cause: str, detail: str) -> None:
        """Take note that the process behind a key is gone; once, however often it is said."""
        launch = self.live.pop(key, None)
        if launch is None:
            return
        if self.fatal is not None:
            self._give_back(launch, lost=True)
            return
        try:
            again = self.ledger.died(launch.number, cause, detail, attempts=self.space.config.attempts)
        except Exception as error:  # as above
            self._give_up(error)
            return
        self._give_back(launch, lost=True)
        self._missing += 1
        self.changed(None if again else self.ledger.trials[launch.number])

    @property
    def _halting(self) -> bool:
        return self.exhausted is not None or self.stopped()

    def _ask(self) -> Entry | Answer:
        proposal = propose(self.space, self.ledger.trials)
        return proposal if isinstance(proposal, Answer) else self.ledger.ask(proposal)

    def _watch_budget(self) -> None:
        config = self.space.config
        if not any(limit is not None for limit in config.budget.to_dict().values()):
            return
        now = self.ledger.clock()
        # Counting goes over the whole record, and Tune asks for trials ten times a second.
        self._next_count = now + _COUNT_S
        used = spent(self.ledger.trials, self.ledger.sessions, config.prices, now)
        self.exhausted = used.exceeds(config.budget)

    def _row(self, launch: Launch, row: Row) -> bool:
        self._insist_on_objectives(launch, row)
        value = row.metrics.get(self.space.config.judged.metric)
        report = Report(row.epoch, value, row.time, launch.fence, dict(row.metrics))
        report = judge(self.space, self.rule, self.ledger.trials, launch.number, report)
        self.ledger.report(launch.number, report)
        self._watch_budget()
        if self._halting:
            self._stop_trials()
        return self.ledger.conclude(launch.number)

    def _end(self, launch: Launch, end: End) -> bool:
        if end.cause == "interrupted":
            return True
        if end.cause == "fenced":
            raise InputError(
                f"{launch.directory}: another process trains in it ({end.reason}); "
                "stop that one and start the sweep again"
            )
        if end.died:
            attempts = self.space.config.attempts
            self.ledger.died(launch.number, end.cause, end.reason, attempts=attempts)
        else:
            self.ledger.fail(launch.number, end.cause, end.reason)
        return True

    def _insist_on_objectives(self, launch: Launch, row: Row) -> None:
        """End the sweep where an objective is not among the metrics; no trial would ever have it."""
        due = row.epoch % launch.config.diagnostics.every == 0 or row.epoch >= launch.config.train.epochs
        for metric in [one.metric for one in self.space.config.objective]:
            if due and metric not in row.metrics:
                known = ", ".join(sorted(row.metrics))
                raise InputError(
                    f"objective.metric = {metric!r}: trials do not report it; they report {known}"
                )

    def _give_back(self, launch: Launch, *, lost: bool) -> None:
        if self.standby is not None:
            self.standby.give_back(launch, lost=lost)

    def _release(self, key: str, launch: Launch) -> None:
        del self.live[key]
        self._give_back(launch, lost=False)

    def _stop_trials(self) -> None:
        self.stop_file.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    def _give_up(self, error: Exception) -> Answer:
        self.fatal = error
        # Where the lease is lost, the file would stop the trials of the driver that has it now.
        if not isinstance(error, LeaseLostError):
            # A disk that is full may be what the error is about; trials then stop at their next report.
            with contextlib.suppress(OSError):
                self._stop_trials()
        return Answer.LATER if self.live else Answer.NEVER
