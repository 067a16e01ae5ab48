"""One driver per sweep: a lease in the sweep's directory, kept alive by a heartbeat.

A holder that is gone from this host loses the lease at once, one that does not beat any more (stopped, or on
a host that is lost) when the lease has expired. Whoever had it finds out at its next write and writes nothing
more.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from raysl.errors import InputError, RayslError, not_written

BEAT_S = 2.0
EXPIRY_S = 30.0


@dataclass(frozen=True)
class Holder:
    """Who drives a sweep.

    Args:
        host: its host.
        pid: its process.
        token: what tells this start of it from any other.
        silent_s: seconds since its last heartbeat.
        alive: whether it is there, as far as can be told from here.
    """

    host: str
    pid: int
    token: str
    silent_s: float
    alive: bool

    def describe(self) -> str:
        """Return who it is in a few words."""
        return f"process {self.pid} on {self.host}"


def read_holder(path: Path, expiry_s: float = EXPIRY_S) -> Holder | None:
    """Return who holds a lease, alive or not, without touching it; None where nobody does."""
    try:
        held = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        # Half of a heartbeat; the other half is being written.
        time.sleep(0.05)
        try:
            held = json.loads(path.read_text(encoding="utf-8") or "{}")
        except ValueError:
            held = {}
    if not isinstance(held, dict) or not held:
        return None
    silent = time.time() - held["beat"]
    here = held["host"] == socket.gethostname() and held["boot"] == _boot()
    alive = _is_process(held) if here else silent < expiry_s
    return Holder(held["host"], held["pid"], held["token"], max(0.0, silent), alive)


class LeaseLostError(RayslError):
    """Another driver holds this sweep now; this one must write nothing more."""


class Holds(Protocol):
    """Whoever may write to a ledger."""

    def check(self) -> None:
        """Make sure that it still may."""


class Unshared:
    """The right to write to a ledger that is in this process's memory, which nobody else has."""

    def check(self) -> None:
        """Say nothing: nobody can take it."""


class Lease:
    """The right to drive a sweep.

    Args:
        path: the lease file.
        expiry_s: seconds without a heartbeat after which another may take it.
        beat_s: seconds between heartbeats.
    """

    def __init__(self, path: Path, *, expiry_s: float = EXPIRY_S, beat_s: float = BEAT_S) -> None:
        self._path, self._expiry_s, self._beat_s = path, expiry_s, beat_s
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def token(self) -> str:
        """What tells this holder from any other."""
        return self._token

    def take(self) -> None:
        """Become the holder and start beating.

        Raises:
            InputError: a live holder has it.
            RayslError: its file cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as file:
                self._refuse_if_held(_read(file))
                self._write(file)
        except OSError as error:
            raise not_written(self._path, error) from None
        self._thread.start()

    def check(self) -> None:
        """Make sure that this is still the holder; asked before every write to the ledger.

        Raises:
            LeaseLostError: it is not.
        """
        try:
            held = json.loads(self._path.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError):
            held = {}
        if held.get("token") == self._token:
            return
        # What was read may be half of a heartbeat; under the lock it is whole.
        with self._locked() as file:
            held = _read(file)
        if held.get("token") != self._token:
            raise LeaseLostError(f"{self._path}: {_who(held)} has taken this sweep over; this driver ends")

    def release(self) -> None:
        """Stop beating and let the next one have it."""
        self._released.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._locked() as file:
            if _read(file).get("token") == self._token:
                file.seek(0)
                file.truncate()

    def _refuse_if_held(self, held: dict[str, Any]) -> None:
        if not held:
            return
        silent = time.time() - held["beat"]
        if held["host"] == socket.gethostname() and held["boot"] == _boot() and not _is_process(held):
            return
        if silent < self._expiry_s:
            wait = self._expiry_s - silent
            raise InputError(
                f"{self._path.parent}: this sweep is run by {_who(held)}, alive {silent:.0f} s ago; "
                f"wait for it or stop it (a dead one on another host is given up after {wait:.0f} s more)"
            )

    def _beat(self) -> None:
        while not self._released.wait(self._beat_s):
            try:
                with self._locked() as file:
                    if _read(file).get("token") != self._token:
                        return
                    self._write(file)
            except (OSError, InputError):
                # A full disk or a slow file system; there are many beats to an expiry, so the next one tries.
                continue

    def _write(self, file: IO[str]) -> None:
        me = psutil.Process()
        facts = {
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": me.pid,
            "started": me.create_time(),
            "token": self._token,
            "beat": time.time(),
        }
        # In place, so that a disk that is full leaves the last beat as it is.
        file.seek(0)
        file.write(json.dumps(facts))
        file.truncate()
        file.flush()

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """Hold the file for a moment: reading, deciding and writing are one act."""
        with open(self._path, "r+", encoding="utf-8", opener=_open_or_make) as file:
            deadline = time.monotonic() + 5.0
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise InputError(
                            f"{self._path}: another process has held it for 5 s; is one stopped?"
                        ) from None
                    time.sleep(0.01)
            yield file


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o644)


def _read(file: IO[str]) -> dict[str, Any]:
    """Return what the file says; nothing where its writer died before it had written all."""
    file.seek(0)
    try:
        held = json.loads(file.read() or "{}")
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _is_process(held: dict[str, Any]) -> bool:
    """Tell whether the holder's process lives; a later process with its number is not it."""
    try:
        process = psutil.Process(held["pid"])
        alive = process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        return alive and abs(process.create_time() - held["started"]) < 1.0
    except psutil.NoSuchProcess:
        return False


def _who(held: dict[str, Any]) -> str:
    return f"process {held['pid']} on {held['host']}" if held else "another driver"


def _boot() -> str:
    """Return what tells this boot of the host from others, and its containers, which count processes anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return str(int(psutil.boot_time()))
