"""One trial after another in this process: each epoch, and each way a trial can end, is a message.

Whatever ends a trial, the process and its imports outlive it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from raysl.errors import Fenced, InputError, Interrupted, TrainingStopped
from raysl.train.atomic import write_atomically
from raysl.train.context import Context
from raysl.train.devices import choose_device
from raysl.train.environment import describe_environment
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from raysl.train.session import TrainData
from raysl.tune.trials.messages import End, Launch, Row

LOCK_PATIENCE_S = 60.0
Loop = Callable[..., Iterator[Any]]


class TrialRunner:
    """Runs the training loop, an epoch at a time.

    Args:
        fetch: returns the decoded images of a form of the trials, and another loop than
            `raysl.train.loop.epochs`, for tests.
        gang: runs the loop of a trial in workers of its own, where trials have several.
    """

    def __init__(
        self,
        fetch: Callable[[int], tuple[TrainData, Loop | None]],
        gang: Callable[[Launch], Iterator[Any]] | None = None,
    ) -> None:
        logging.getLogger("raysl").setLevel(logging.WARNING)
        self._fetch, self._gang = fetch, gang
        self._environment = describe_environment()
        self._launch: Launch | None = None
        self._reports: Iterator[Any] | None = None
        self._held = contextlib.ExitStack()

    def begin(self, launch: Launch) -> None:
        """Leave the trial before, and take up this one at the next call of `next`."""
        self.finish()
        self._launch, self._sent = launch, launch.recorded
        self._run = RunDirectory(Path(launch.directory))
        self._rows: deque[Row] = deque()

    def next(self) -> Row | End:
        """Return the next epoch that the ledger lacks, or how the trial has ended."""
        if self._launch is None:
            raise RuntimeError("no trial was begun")
        try:
            return self._next(self._launch)
        except GangEnded as ended:
            end, trace = ended.end, ended.trace
        except Exception as error:  # a trial may fail in any way; the sweep goes on
            end, trace = end_of(error), traceback.format_exc()
        if end.cause == "oom":
            torch.cuda.empty_cache()
        elif end.cause == "error":
            folder = Path(self._launch.directory)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(trace, encoding="utf-8")
        return end

    def finish(self) -> None:
        """Let go of the run directory."""
        reports, self._reports = self._reports, None
        with self._held:
            if reports is not None:
                with contextlib.suppress(Fenced):
                    reports.close()  # type: ignore[attr-defined]

    def _next(self, launch: Launch) -> Row:
        if self._reports is None:
            self._reports = self._start(launch)
            self._read_rows()
        while not self._rows:
            if next(self._reports, None) is None:
                raise InputError(f"{self._run.path}: is complete, but its record ends at epoch {self._sent}")
            self._read_rows()
        row = self._rows.popleft()
        self._sent = row.epoch
        if row.epoch == launch.config.train.epochs:
            # Lets the loop put its own end on record.
            next(self._reports, None)
        return row

    def _start(self, launch: Launch) -> Iterator[Any]:
        torch.set_num_threads(launch.threads)
        # First the fence, so that what is left of an earlier attempt ends at its next write; then its lock.
        self._run.claim(launch.fence)
        self._held.enter_context(_lock(self._run))
        self._run.prepare(launch.config)
        if not (self._run.path / "environment.json").exists():
            write_atomically(self._run.path / "environment.json", json.dumps(self._environment, indent=1))
        if self._gang is not None:
            return self._gang(launch)
        data, loop = self._fetch(launch.fidelity)
        context = Context(
            run=self._run,
            data=data,
            device=choose_device(launch.config),
            fence=launch.fence,
            stop=Path(launch.stop_file).exists,
        )
        return iter((loop or epochs)(launch.config, context))

    def _read_rows(self) -> None:
        """Queue what is on record beyond what was sent: epochs the ledger lacks, then each new one."""
        last = self._rows[-1].epoch if self._rows else self._sent
        rows = (row for row in self._run.metrics() if row["epoch"] > last)
        self._rows.extend(Row(row["epoch"], row["time"], row["metrics"]) for row in rows)


class GangEnded(Exception):
    """How a trial with workers of its own has ended, as they tell it.

    Args:
        end: the end.
        trace: where it happened, for people.
    """

    def __init__(self, end: End, trace: str = "") -> None:
        super().__init__(end.reason)
        self.end, self.trace = end, trace


def end_of(error: Exception) -> End:
    """Return what an exception of the loop means."""
    if isinstance(error, Interrupted):
        return End("interrupted", str(error))
    if isinstance(error, TrainingStopped):
        return End(error.cause, error.detail)
    if isinstance(error, Fenced):
        return End("fenced", str(error))
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return End("oom", f"out of memory: {said}")
    return End("error", said if isinstance(error, InputError) else f"{type(error).__name__}: {said}")


@contextlib.contextmanager
def _lock(run: RunDirectory) -> Iterator[None]:
    """Lock the run directory; wait for a process of an earlier attempt to notice that it is over."""
    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                stack.enter_context(run.lock())
                break
            except InputError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield
