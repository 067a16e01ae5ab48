"""A preparation that was killed goes on, and a finished one checks itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raysl.data.prepare.find import find_splits
from raysl.data.prepare.manifest import Prepared
from raysl.data.prepare.prepare import Request, prepare
from raysl.errors import InputError

from .made import WriteFolder, encode, pictures

if TYPE_CHECKING:
    from raysl.cluster.connect import ClusterInfo

SHARDS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_folder: WriteFolder) -> Path:
    images = [encode(picture, "JPEG") for picture in pictures(10, (400, 400))]
    files = {f"{n % 2}/{n:03d}.jpg": images[n % 10] for n in range(4 * SHARDS)}
    return write_folder(tmp_path_factory.mktemp("folder") / "in", files)


def made(folder: Path, out: Path, rows: int = 4) -> Prepared:
    return prepare(str(folder), find_splits(str(folder)), str(out), Request(shard_rows=rows))


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_killed_and_run_again_it_goes_on(tmp_path: Path, folder: Path, ray_cluster: ClusterInfo) -> None:
    out = tmp_path / "out"
    words = ["data", "prepare", str(folder), str(out), "--rows", "4", "--cluster", ray_cluster.address]
    child = subprocess.Popen(
        [sys.executable, "-m", "raysl", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        until = time.monotonic() + 60
        while len(list(out.glob(".prepare/train-*.json"))) < 5 and time.monotonic() < until:
            assert child.poll() is None, child.stdout and child.stdout.read()
            time.sleep(0.005)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    time.sleep(0.5)  # tasks of a dead driver may end what they are at
    kept = {path.stem: path.stat().st_mtime_ns for path in out.glob(".prepare/train-*.json")}
    assert 5 <= len(kept) < SHARDS
    assert not (out / "manifest.json").exists()
    before = {name: (out / name).stat().st_mtime_ns for name in kept}
    assert made(folder, out).made == SHARDS - len(kept)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == before
    made(folder, tmp_path / "undisturbed")
    assert files_of(out) == files_of(tmp_path / "undisturbed")


def test_a_damaged_shard_is_made_again(tmp_path: Path, folder: Path, ray_cluster: ClusterInfo) -> None:
    out = tmp_path / "out"
    assert made(folder, out, rows=40).made == 4
    files = files_of(out)
    assert made(folder, out, rows=40).made == 0
    shard = out / json.loads(files["manifest.json"])["splits"]["train"]["shards"][1]["name"]
    data = bytearray(files[shard.name])
    data[100] ^= 1
    shard.write_bytes(data)
    (out / "train-00003-of-00004.parquet").unlink()
    assert made(folder, out, rows=40).made == 2
    assert files_of(out) == files


def test_another_set_is_not_written_over(tmp_path: Path, folder: Path, ray_cluster: ClusterInfo) -> None:
    out = tmp_path / "out"
    made(folder, out, rows=80)
    with pytest.raises(InputError, match="begun with other splits"):
        made(folder, out, rows=40)
    with pytest.raises(InputError, match="is not empty"):
        made(folder, folder)
