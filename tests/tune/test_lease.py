"""The lease between real processes: killed, stopped, alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import pytest

from raysl.errors import InputError
from raysl.tune.records.lease import Lease, LeaseLostError

EXPIRY_S, BEAT_S = 1.5, 0.2
HOLDER = f"""
import sys, time
from pathlib import Path
from raysl.tune.records.lease import Lease, LeaseLostError
lease = Lease(Path(sys.argv[1]), expiry_s={EXPIRY_S}, beat_s={BEAT_S})
lease.take()
print("taken", flush=True)
for line in sys.stdin:
    try:
        lease.check()
        print("mine", flush=True)
    except LeaseLostError:
        print("lost", flush=True)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has taken the lease; it checks it whenever it is sent a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def lease(path: Path) -> Lease:
    return Lease(path, expiry_s=EXPIRY_S, beat_s=BEAT_S)


def test_a_live_holder_is_respected_however_long_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with holder(path) as process:
        time.sleep(EXPIRY_S + 0.5)
        with pytest.raises(InputError, match=f"run by process {process.pid}"):
            lease(path).take()
        assert ask(process) == "mine"


def test_a_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        mine = lease(path)
        began = time.monotonic()
        mine.take()
        assert time.monotonic() - began < EXPIRY_S / 2
        mine.check()
        mine.release()


def test_a_stopped_holder_is_followed_after_expiry_and_finds_out(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with holder(path) as process:
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10 * EXPIRY_S
        mine = lease(path)
        with pytest.raises(InputError):
            mine.take()
        while True:
            try:
                mine = lease(path)
                mine.take()
                break
            except InputError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        process.send_signal(signal.SIGCONT)
        assert ask(process) == "lost"
        time.sleep(3 * BEAT_S)
        mine.check()
        mine.release()


def test_release_lets_the_next_one_in_and_the_old_one_out(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    first, second = lease(path), lease(path)
    first.take()
    first.release()
    second.take()
    with pytest.raises(LeaseLostError):
        first.check()
    second.release()


@pytest.mark.parametrize("torn", ["", "{", '{"host": "x", "pi', "[]", "\x00\x00"])
def test_what_a_dying_writer_left_unfinished_is_no_lease(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "lease.json"
    path.write_text(torn)
    mine = lease(path)
    mine.take()
    mine.check()
    assert f'"pid": {os.getpid()}' in path.read_text()
    mine.release()


def test_another_process_with_the_dead_holders_number_is_not_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    first = lease(path)
    first.take()
    held = path.read_text()
    first.release()
    # This very process, but begun at another time than the lease says.
    path.write_text(held.replace('"started": ', '"started": 1'))
    assert f'"pid": {os.getpid()}' in path.read_text()
    second = lease(path)
    second.take()
    second.release()


@pytest.mark.parametrize("error", [OSError("no space left"), InputError("another process has held it")])
def test_one_beat_that_fails_is_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "lease.json"
    mine = lease(path)
    mine.take()
    failures = [error]
    locked = Lease._locked

    def sometimes(self: Lease) -> AbstractContextManager[IO[str]]:
        if failures and threading.current_thread().name == "lease":
            raise failures.pop()
        return locked(self)

    monkeypatch.setattr(Lease, "_locked", sometimes)
    deadline = time.monotonic() + 10
    while failures:
        assert time.monotonic() < deadline
        time.sleep(BEAT_S / 4)
    failed = time.time()
    time.sleep(4 * BEAT_S)
    with pytest.raises(InputError, match="alive"):
        lease(path).take()
    assert json.loads(path.read_text())["beat"] > failed
    mine.release()
