"""Sweeps as users run them: the gap between trials, and what is lost when the driver is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from raysl.train.checkpoint import latest
from raysl.train.rundir import RunDirectory
from raysl.tune.records.entry import Entry
from raysl.tune.records.record import read_record
from raysl.tune.replay import replay

_MARK = "RAYSL_BENCHMARK"
_WATCH_S = 120.0


class Driver:
    """A `raysl sweep` in a process of its own, whose descendants carry a mark in their environment."""

    def __init__(self, words: list[str], runs: Path, name: str) -> None:
        self.path, self.mark = runs / name, uuid.uuid4().hex
        self._command = [sys.executable, "-m", "raysl", "sweep", *words, "--runs", str(runs), "--name", name]
        self.log = runs / f"{name}.log"
        runs.mkdir(parents=True, exist_ok=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command; its output goes to the log."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env=os.environ | {_MARK: self.mark},
                start_new_session=True,
            )

    def processes(self) -> Iterator[psutil.Process]:
        """Yield every living process that descends from a driver, dead ones included."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue

    def rows(self) -> dict[int, list[dict[str, Any]]]:
        """Return what every trial has recorded."""
        folders = (self.path / "trials").glob("*")
        return {
            int(folder.name): RunDirectory(folder).metrics() for folder in folders if folder.name.isdigit()
        }

    def entries(self) -> list[Entry]:
        """Return what the ledger holds."""
        return list(read_record(self.path).trials)


def gaps(driver: Driver, count: int) -> int:
    """Run a sweep, killing `count` trial processes on the way, and print the gaps by what came before."""
    process = driver.start()
    killed: list[float] = []
    while process.poll() is None:
        time.sleep(0.5)
        busy = [p for p in driver.processes() if "Trainable.train" in " ".join(p.cmdline())]
        reports = sum(len(rows) for rows in driver.rows().values())
        if busy and len(killed) < count and reports >= 8 * (len(killed) + 1):
            busy[0].kill()
            killed.append(time.time())
    entries = driver.entries()
    found = _gaps(entries, killed)
    states = dict(Counter(entry.cause for entry in entries))
    print(f"exit code {process.returncode}; {len(entries)} trials: {states}; {len(killed)} processes killed")
    print(f"{'after':<10}{'gaps':>6}{'median s':>10}{'p95 s':>8}{'max s':>8}")
    every = [gap for values in found.values() for gap in values]
    for cause, values in [*sorted(found.items()), ("all", every)]:
        p95 = sorted(values)[min(len(values) - 1, round(0.95 * (len(values) - 1)))]
        print(f"{cause:<10}{len(values):>6}{statistics.median(values):>10.2f}{p95:>8.2f}{max(values):>8.2f}")
    return int(process.returncode)


def _gaps(entries: list[Entry], killed: list[float]) -> dict[str, list[float]]:
    """Pair each end with the next attempt that was launched, and look up that attempt's first step."""
    ends = [(time_, "killed") for time_ in killed]
    for entry in entries:
        if entry.ended is not None and entry.cause in {"complete", "pruned", "nan", "inf"}:
            last = entry.reports[-1].time if entry.cause in {"complete", "pruned"} else entry.ended
            ends.append((last, "nan" if entry.cause == "inf" else entry.cause))
    starts = []
    for entry in entries:
        for fence, launched in enumerate(entry.launches, start=1):
            first = [report for report in entry.reports if report.fence == fence]
            step = first[0].metrics.get("time/first_step") if first else None
            starts.append((launched, step))
    starts.sort(key=lambda start: start[0])
    found = defaultdict(list)
    for ended, cause in sorted(ends):
        following = next((start for start in starts if start[0] >= ended), None)
        if following is None:
            continue
        starts.remove(following)
        if following[1] is not None:
            found[cause].append(following[1] - ended)
    return found


def kills(driver: Driver, count: int, choice: random.Random, undisturbed: Driver | None) -> int:
    """Kill the driver `count` times, then let it finish, and check what must hold.

    Args:
        driver: the sweep.
        count: of kills.
        choice: of their moments.
        undisturbed: the same sweep, with `deterministic: true`, which is run without kills and must come out
            equal; None to leave that out.
    """
    wrong: list[str] = []
    if undisturbed is not None and undisturbed.start().wait():
        wrong.append(f"the undisturbed sweep failed: see {undisturbed.log}")
    reference = None if undisturbed is None else _facts(undisturbed.entries())
    seen: dict[int, dict[str, Any]] = {}
    replayed = alike = 0
    for number in range(count):
        process = driver.start()
        before = sum(len(rows) for rows in driver.rows().values())
        wanted = before + choice.randint(1, 6)
        while process.poll() is None and sum(len(rows) for rows in driver.rows().values()) < wanted:
            time.sleep(0.05)
        time.sleep(choice.uniform(0.0, 1.0))
        if process.poll() is not None:
            wrong.append(f"the sweep ended before kill {number + 1} (exit code {process.returncode})")
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        _wait_for_workers(driver)
        lost = {}
        for trial, rows in driver.rows().items():
            whole = latest(driver.path / "trials" / str(trial) / "checkpoints")
            lost[trial] = len(rows) - (
                json.loads((whole / "state.json").read_text())["position"]["epoch"] if whole else 0
            )
        killed = driver.entries()
        found = replay(driver.path)
        replayed += not found.differences
        wrong += [f"kill {number + 1}: {difference}" for difference in found.differences]
        if reference is not None:
            strayed = [
                n for n, fact in enumerate(_facts(killed)) if not _is_begun(fact, reference[n : n + 1])
            ]
            alike += not strayed
            wrong += [f"kill {number + 1}: trial {n} differs from the undisturbed one" for n in strayed]
        params = {entry.number: entry.params for entry in killed}
        wrong += [f"trial {n}: parameters changed" for n in seen if params.get(n) != seen[n]]
        wrong += [
            f"trial {n}: {epochs} recorded epochs to compute again"
            for n, epochs in lost.items()
            if epochs > 1
        ]
        seen = params
        recorded = sum(map(len, driver.rows().values()))
        print(
            f"kill {number + 1}: {len(params)} trials, {recorded} epochs on record; "
            f"recorded epochs to compute again: {sum(lost.values())}",
            flush=True,
        )
    code = driver.start().wait()
    ended = time.monotonic()
    entries = driver.entries()
    wrong += [] if code == 0 else [f"the last start ended with exit code {code}"]
    wrong += (
        [] if [e.number for e in entries] == list(range(len(entries))) else ["numbers are not contiguous"]
    )
    wrong += [f"trial {e.number}: still running" for e in entries if e.state == "running"]
    wrong += [f"trial {e.number}: failed ({e.cause}: {e.reason})" for e in entries if e.state == "failed"]
    wrong += [f"trial {n}: parameters changed" for n in seen if entries[n].params != seen[n]]
    for trial, rows in driver.rows().items():
        epochs = [row["epoch"] for row in rows]
        reported = [report.epoch for report in entries[trial].reports]
        if epochs != list(range(1, len(epochs) + 1)) or reported != epochs:
            wrong.append(f"trial {trial}: epochs {epochs} on record, {reported} in the ledger")
    folders = {int(folder.name) for folder in (driver.path / "trials").iterdir()}
    wrong += [f"orphan directory {n}" for n in folders - {entry.number for entry in entries}]
    found = replay(driver.path)
    print(f"replay: equal to the bit after {replayed} of {count} kills; at the end: {found.describe()}")
    wrong += list(found.differences)
    if reference is not None:
        pairs = list(zip(_facts(entries), reference, strict=False))
        equal = sum(left == right for left, right in pairs)
        print(f"the beginning of the undisturbed sweep's ledger after {alike} of {count} kills; "
              f"at the end equal in {equal} of {len(entries)} trials")  # fmt: skip
        wrong += [f"trial {n}: differs from the undisturbed one" for n, (a, b) in enumerate(pairs) if a != b]
        if len(entries) != len(reference):
            wrong.append(f"{len(entries)} trials, {len(reference)} undisturbed")
    leftovers = list(driver.processes())
    while leftovers and time.monotonic() - ended < _WATCH_S:
        time.sleep(1.0)
        leftovers = list(driver.processes())
    print(f"{len(entries)} trials, numbers {entries[0].number}-{entries[-1].number}, states: "
          f"{', '.join(sorted(entry.state for entry in entries))}")  # fmt: skip
    print(f"processes left {time.monotonic() - ended:.0f} s after the end: {len(leftovers)}")
    wrong += [f"process {process.pid} left: {process.name()}" for process in leftovers]
    print("\n".join(wrong) or "all checks hold")
    return 1 if wrong else 0


def _is_begun(fact: tuple[Any, ...], whole: list[tuple[Any, ...]]) -> bool:
    """Tell whether a trial, running or ended, is the whole one as far as it has come."""
    if not whole or fact[0:2] != whole[0][0:2]:
        return False
    ended, reports = fact[2] != "running", fact[-1]
    return fact == whole[0] if ended else reports == whole[0][-1][: len(reports)]


def _facts(entries: list[Entry]) -> list[tuple[Any, ...]]:
    """Return what the ledger says of each trial but times, attempts and throughput."""
    return [
        (
            entry.params, entry.role, entry.state, entry.cause, entry.reason, entry.values,
            [
                (
                    report.epoch, report.value, report.stop, report.audit, report.peers, report.note,
                    {tag: at for tag, at in report.metrics.items() if not tag.startswith(("perf/", "time/"))},
                )
                for report in entry.reports
            ],
        )
        for entry in entries
    ]  # fmt: skip


def _wait_for_workers(driver: Driver) -> None:
    """Wait until no trial writes any more, so that what is on disk is what the kill left."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and any(
        "Trainable" in " ".join(p.cmdline()) for p in driver.processes()
    ):
        time.sleep(0.1)
