"""The directory of a private Ray: short enough for its sockets, gone when its driver is.

Ray keeps sockets, logs and spilled objects of a session in one directory and never removes it. Ours is
removed at the end; one whose driver was killed is removed by the next driver of the same user. A driver
holds a lock on a file in its directory: the kernel drops it however the process dies, and unlike a
process id it is never taken over by another process or hidden by a container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from raysl.errors import InputError

PREFIX = "raysl-ray-"
LOCK = "driver.lock"

# A Unix socket's path has at most 107 bytes (103 on macOS). Below its directory Ray needs
# "/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store" (64), and some room for later names.
LONGEST_DIRECTORY = 36
# A directory without a lock is one being made at this moment, or one whose maker died in between.
GRACE_S = 3600.0


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make a directory for one private Ray, after removing those of dead drivers; remove it at the end.

    It lies in the system's temporary directory (`TMPDIR`), or in `/tmp` when that path is too long.

    Raises:
        InputError: neither place can be used.
    """
    parent = _parent()
    sweep(parent)
    try:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise InputError(
            f"no directory for Ray's sockets can be made in {parent} ({error.strerror}); "
            "set TMPDIR to a writable local directory with a short path"
        ) from error
    # Locked before it gets its name: a sweep never sees an unlocked lock of a living driver.
    making = directory / f"{LOCK}.making"
    with making.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        making.rename(directory / LOCK)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the directories of this user's dead drivers in `parent`.

    Returns:
        The directories that were removed.
    """
    removed = []
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another driver sweeps too
            if directory.lstat().st_uid == os.getuid() and not _in_use(directory):
                shutil.rmtree(directory, ignore_errors=True)
                removed.append(directory)
    return removed


def _in_use(directory: Path) -> bool:
    try:
        lock = (directory / LOCK).open()
    except FileNotFoundError:
        return time.time() - directory.lstat().st_mtime < GRACE_S
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _parent() -> Path:
    usual = Path(tempfile.gettempdir())
    fits = len(os.fsencode(usual / f"{PREFIX}12345678")) <= LONGEST_DIRECTORY
    return usual if fits else Path("/tmp")
