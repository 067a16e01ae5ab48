"""Asking the driver of a sweep to stop, from another process or host: a file in the sweep's directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raysl.errors import RayslError
from raysl.train.atomic import write_atomically
from raysl.tune.records.folder import read_space
from raysl.tune.records.lease import Holder, read_holder

_POLL_S = 0.2
_LOOK_S = 0.5


class StopFile:
    """The file that asks for a stop, as the driver sees it.

    It names the driver that is meant by the token of its lease, so that one that has since taken the sweep
    over is left alone.

    Args:
        directory: the sweep's directory.
        token: that of the driver's lease.
    """

    def __init__(self, directory: Path, token: str) -> None:
        self._path, self._token = stop_path(directory), token
        self._found, self._next_look = False, 0.0

    def __call__(self) -> bool:
        """Return whether this driver is asked to stop; looked up twice a second at most."""
        now = time.monotonic()
        if not self._found and now >= self._next_look:
            self._next_look = now + _LOOK_S
            self._found = self._asks()
        return self._found

    def remove_stale(self) -> None:
        """Take a request away that was for a driver that is gone."""
        if not self._asks():
            self._path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take the request away that has been followed; not one for whoever has taken over."""
        if self._asks():
            self._path.unlink(missing_ok=True)

    def _asks(self) -> bool:
        try:
            return self._path.read_text(encoding="utf-8").strip() == self._token
        except FileNotFoundError:
            return False


def stop_path(directory: Path) -> Path:
    """Return where a stop is asked for."""
    return directory / "stop"


@dataclass(frozen=True)
class Stopped:
    """What became of a request to stop.

    Args:
        directory: the sweep's directory.
        was_running: whether anybody drove it.
        driver: who it was.
        seconds: how long it took.
    """

    directory: Path
    was_running: bool
    driver: str = ""
    seconds: float = 0.0

    def describe(self) -> str:
        """Return it in one line for people."""
        if not self.was_running:
            return f"{self.directory}: not running"
        return (
            f"{self.directory}: {self.driver} has stopped after {self.seconds:.1f} s; "
            "the command that began the sweep continues it"
        )


def stop(directory: str | Path, *, wait_s: float = 120.0, say: Callable[[str], None] = print) -> Stopped:
    """Make the driver of a sweep stop as SIGTERM would, and wait until it has.

    Args:
        directory: the sweep's directory.
        wait_s: seconds to wait for it.
        say: told who is asked.

    Raises:
        InputError: the directory holds no sweep.
        RayslError: it has not stopped in time; it is still asked to.
    """
    root = Path(directory)
    read_space(root)
    driver = _driver(root)
    if driver is None:
        return Stopped(root, was_running=False)
    write_atomically(stop_path(root), driver.token)
    say(f"asked {driver.describe()} to stop: its trials save at the next step")
    begun = time.monotonic()
    while time.monotonic() < begun + wait_s:
        now = _driver(root)
        if now is None or now.token != driver.token:
            return Stopped(root, True, driver.describe(), time.monotonic() - begun)
        time.sleep(_POLL_S)
    raise RayslError(
        f"{root}: {driver.describe()} has not stopped within {wait_s:g} s; it stays asked to, and stops when "
        f"its trials come to the end of a step (raysl sweep status {root})"
    )


def _driver(root: Path) -> Holder | None:
    holder = read_holder(root / "lease.json")
    return holder if holder is not None and holder.alive else None
