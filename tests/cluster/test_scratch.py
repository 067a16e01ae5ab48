from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysl.cluster.scratch import GRACE_S, LOCK, LONGEST_DIRECTORY, PREFIX, scratch_directory, sweep
from raysl.errors import InputError


@pytest.fixture
def tmpdir_is(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


def test_it_is_locked_while_used_and_gone_afterwards(tmpdir_is: Path) -> None:
    with scratch_directory() as directory:
        assert directory.parent == tmpdir_is
        assert len(os.fsencode(directory)) <= LONGEST_DIRECTORY
        assert (directory / LOCK).read_text() == f"{os.getpid()}\n"
        assert sweep(tmpdir_is) == []
        (directory / "session").mkdir()
    assert list(tmpdir_is.iterdir()) == []


def test_it_is_removed_when_the_block_fails(tmpdir_is: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), scratch_directory():
        raise RuntimeError("boom")
    assert list(tmpdir_is.iterdir()) == []


def test_a_killed_drivers_directory_is_swept_by_the_next(tmpdir_is: Path) -> None:
    code = """
import os, signal
from raysl.cluster.scratch import scratch_directory
with scratch_directory() as directory:
    (directory / "session").mkdir()
    print(directory, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmpdir_is)}
    dead = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    left = Path(dead.stdout.strip())
    assert (left / "session").is_dir()
    with scratch_directory() as directory:
        assert list(tmpdir_is.iterdir()) == [directory]


def test_only_our_own_and_unlocked_ones_are_swept(tmpdir_is: Path) -> None:
    for name in ("other", f"{PREFIX}making", f"{PREFIX}forgotten", f"{PREFIX}dead", f"{PREFIX}alive"):
        (tmpdir_is / name).mkdir()
    os.utime(tmpdir_is / f"{PREFIX}forgotten", (0, os.stat(tmpdir_is).st_mtime - GRACE_S - 60))
    (tmpdir_is / f"{PREFIX}dead" / LOCK).touch()
    with (tmpdir_is / f"{PREFIX}alive" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        removed = sweep(tmpdir_is)
    assert {path.name for path in removed} == {f"{PREFIX}forgotten", f"{PREFIX}dead"}
    assert {path.name for path in tmpdir_is.iterdir()} == {"other", f"{PREFIX}making", f"{PREFIX}alive"}


def test_a_long_temporary_directory_gives_way_to_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with scratch_directory() as directory:
        assert directory.parent == Path("/tmp")


def test_a_place_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(InputError, match=r"/proc/nowhere .*set TMPDIR"), scratch_directory():
        pytest.fail("the directory cannot be there")
