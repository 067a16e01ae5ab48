"""A disk that is really full: an error that says so, nothing lost, and the same command goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysl.errors import RayslError
from raysl.train import checkpoint
from raysl.train.rundir import RunDirectory
from tests.train.made import assert_same_bits, config, digits, results, train, weights

PAGE = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Leave `free` bytes on a disk."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - free)))
    assert shutil.disk_usage(disk).free <= free + PAGE
    return ballast


@pytest.mark.parametrize("free", [0, 1 * PAGE, 4 * PAGE, 20 * PAGE, 40 * PAGE])
def test_a_run_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path, free: int
) -> None:
    given = ["schedule.horizon=3", "checkpoint.keep=3"]
    train(config(*given, "train.epochs=3"), tmp_path / "straight", digits(70))
    run = RunDirectory(small_disk / "run")
    train(config(*given, "train.epochs=1"), run.path, digits(70))
    recorded = (run.path / "metrics.jsonl").read_bytes()
    ballast = fill(small_disk, free)

    for _ in range(2):
        with pytest.raises(
            RayslError, match="not written: the disk is full; free some space and run the same"
        ):
            train(config(*given, "train.epochs=3"), run.path, digits(70))
        assert (run.path / "metrics.jsonl").read_bytes().startswith(recorded)
        found = checkpoint.latest(run.checkpoints)
        assert found is not None
        assert found.name >= "epoch_0001"
        assert not [entry.name for entry in run.checkpoints.iterdir() if not entry.name.startswith("epoch_")]

    ballast.unlink()
    train(config(*given, "train.epochs=3"), run.path, digits(70))
    assert results(run.path) == results(tmp_path / "straight")
    assert_same_bits(weights(run.path), weights(tmp_path / "straight"))
    assert run.status()["state"] == "completed"


def test_a_report_that_does_not_fit_is_taken_back(small_disk: Path) -> None:
    run = RunDirectory(small_disk / "run")
    fence = run.claim()
    run.append_metrics(fence, {"epoch": 1, "metrics": {}})
    ballast = fill(small_disk, 0)
    with pytest.raises(RayslError, match=r"metrics\.jsonl: not written: the disk is full"):
        run.append_metrics(fence, {"epoch": 2, "metrics": {"train/loss": 1.0, "text": "x" * 2 * PAGE}})
    assert run.metrics() == [{"epoch": 1, "metrics": {}}]
    ballast.unlink()
    run.append_metrics(fence, {"epoch": 2, "metrics": {}})
    assert [row["epoch"] for row in run.metrics()] == [1, 2]


def test_the_fence_is_never_lost_on_a_full_disk(small_disk: Path) -> None:
    run = RunDirectory(small_disk / "run")
    for _ in range(9):
        run.claim()
    fill(small_disk, 0)
    assert run.claim() == 10


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from raysl.train.checkpoint import Position, TrainingState, save
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
save(Path(sys.argv[1]), TrainingState(Position(1), {"a": torch.ones(10)}, {}))
save(Path(sys.argv[1]), TrainingState(Position(2), {"a": torch.ones(100_000)}, {}))
"""


def test_a_file_that_cannot_grow_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    """Needs no root: the process may write no file beyond 8 KiB."""
    told = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert told.returncode == 1
    assert "RayslError" in told.stderr.splitlines()[-1]
    assert "epoch_0002: not written: " in told.stderr.splitlines()[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["epoch_0001"]
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch_0001"
