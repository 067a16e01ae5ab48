"""Stopped anywhere and continued equals never stopped, to the bit: weights, optimizer and every record."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysl.errors import Fenced, InputError, Interrupted
from raysl.train import checkpoint
from raysl.train.context import Context
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from tests.train.made import METHODS, StopAfter, assert_same_bits, config, digits, results, train, weights


def stopped(path: Path, questions: int, *overrides: str, method: str = "matrix_ssl") -> str:
    with pytest.raises(Interrupted) as caught:
        train(config(*overrides, method=method), path, stop=StopAfter(questions))
    return str(caught.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("equipped", [False, True])
def test_stopped_in_the_middle_of_an_epoch(tmp_path: Path, method: str, equipped: bool) -> None:
    given = ["optimizer.name=adam", "optimizer.lr=0.003"]
    if equipped:
        given += ["train.precision=bf16", "train.accumulation=4", "train.channels_last=true"]
    train(config(*given, method=method), tmp_path / "straight")
    # Four questions an epoch: after each of the first three steps, and after the report.
    told = stopped(tmp_path / "stopped", 4 + 2, *given, method=method)
    assert told == "saved at epoch_0001_step_000002; the same command continues"
    assert RunDirectory(tmp_path / "stopped").status()["state"] == "interrupted"
    reports = train(config(*given, method=method), tmp_path / "stopped")
    assert [report.epoch for report in reports] == [2, 3]
    assert results(tmp_path / "stopped") == results(tmp_path / "straight")
    assert_same_bits(weights(tmp_path / "stopped"), weights(tmp_path / "straight"))


@pytest.mark.parametrize("questions", [1, 3, 4, 8])
def test_stopped_anywhere_else(tmp_path: Path, questions: int) -> None:
    train(config(), tmp_path / "straight")
    stopped(tmp_path / "stopped", questions)
    kept = [entry.name for entry in RunDirectory(tmp_path / "stopped").checkpoints.iterdir()]
    assert all(name.startswith("epoch_") for name in kept), "a stop right after a save must not save again"
    train(config(), tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "straight")
    assert_same_bits(weights(tmp_path / "stopped"), weights(tmp_path / "straight"))


def test_stopped_again_and_again_one_step_further_each_time(tmp_path: Path) -> None:
    given = ["checkpoint.keep=1", "checkpoint.best=null"]
    train(config(*given), tmp_path / "straight")
    names = [stopped(tmp_path / "stopped", 1, *given).split()[2].rstrip(";") for _ in range(11)]
    assert names[:5] == [
        "epoch_0000_step_000001", "epoch_0000_step_000002", "epoch_0000_step_000003", "epoch_0001",
        "epoch_0001_step_000001",
    ]  # fmt: skip
    train(config(*given), tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "straight")
    assert_same_bits(weights(tmp_path / "stopped"), weights(tmp_path / "straight"))


def test_a_stop_that_comes_at_the_very_end_changes_nothing(tmp_path: Path) -> None:
    assert len(train(config(), tmp_path, stop=StopAfter(3 * 4))) == 3
    assert RunDirectory(tmp_path).status()["state"] == "completed"


def test_a_complete_run_yields_nothing_and_stays_as_it_is(tmp_path: Path) -> None:
    train(config(), tmp_path)
    recorded = (tmp_path / "metrics.jsonl").read_bytes()
    assert train(config(), tmp_path) == []
    assert (tmp_path / "metrics.jsonl").read_bytes() == recorded


def test_fewer_epochs_than_are_done_are_refused_and_the_record_keeps_its_config(tmp_path: Path) -> None:
    train(config("schedule.horizon=3", "train.epochs=2"), tmp_path)
    with pytest.raises(InputError, match=r"has 2 epochs already; give train.epochs >= 2"):
        train(config("schedule.horizon=3", "train.epochs=1"), tmp_path)
    assert RunDirectory(tmp_path).config().train.epochs == 2
    assert train(config("schedule.horizon=3", "train.epochs=2"), tmp_path) == []


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path) -> None:
    stopped(tmp_path, 4)
    status = RunDirectory(tmp_path).status()
    for data, counts in ((digits(70), "180 -> 110"), (digits(180, 0), "180 -> 180")):
        with pytest.raises(
            InputError, match=f"images have changed since this run began \\({counts}\\); choose"
        ):
            train(config("diagnostics.knn=null"), tmp_path, data)
    assert RunDirectory(tmp_path).status() == status
    assert [report.epoch for report in train(config(), tmp_path)] == [2, 3]


def test_a_consumer_that_stops_asking_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    train(config(), tmp_path / "straight")
    run = RunDirectory(tmp_path / "left")
    run.prepare(config())
    reports = epochs(config(), Context(run, digits()))
    assert next(reports).epoch == 1
    reports.close()  # type: ignore[attr-defined]
    assert run.status() | {"state": "stopped", "cause": "not continued"} == run.status()
    assert [report.epoch for report in train(config(), run.path)] == [2, 3]
    assert results(run.path) == results(tmp_path / "straight")
    assert_same_bits(weights(run.path), weights(tmp_path / "straight"))


def test_a_consumer_that_took_every_report_leaves_a_complete_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.prepare(config())
    reports = epochs(config(), Context(run, digits()))
    assert [next(reports).epoch for _ in range(3)] == [1, 2, 3]
    reports.close()  # type: ignore[attr-defined]
    assert run.status()["state"] == "completed"


def test_an_epoch_on_record_is_trained_again_in_silence(tmp_path: Path) -> None:
    """A crash between a report and its checkpoint."""
    train(config(), tmp_path / "straight")
    run = RunDirectory(tmp_path / "crashed")
    train(config("schedule.horizon=3", "train.epochs=2", "checkpoint.keep=9"), run.path)
    (run.checkpoints / "epoch_0002").rename(run.checkpoints / ".epoch_0002.99999999")
    recorded = (run.path / "metrics.jsonl").read_bytes()
    assert [report.epoch for report in train(config(), run.path)] == [3]
    assert (run.path / "metrics.jsonl").read_bytes().startswith(recorded)
    assert results(run.path) == results(tmp_path / "straight")
    assert_same_bits(weights(run.path), weights(tmp_path / "straight"))


def test_an_orphan_stops_at_its_next_write_and_harms_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.prepare(config())
    orphan = epochs(config(), Context(run, digits()))
    next(orphan)
    assert [report.epoch for report in train(config(), tmp_path)] == [2, 3]
    before = {
        file: file.read_bytes()
        for file in tmp_path.rglob("*")
        if file.is_file() and "events" not in file.name
    }
    with pytest.raises(Fenced):
        next(orphan)
    assert all(file.read_bytes() == content for file, content in before.items())


def test_checkpoints_by_the_minute_fall_inside_epochs(tmp_path: Path) -> None:
    given = ["checkpoint.every=0.00001 min", "checkpoint.keep=100"]
    train(config(*given), tmp_path / "often")
    saved = [
        found.name for found in checkpoint.list_checkpoints(RunDirectory(tmp_path / "often").checkpoints)
    ]
    assert saved[:5] == [
        "epoch_0000_step_000001", "epoch_0000_step_000002", "epoch_0000_step_000003", "epoch_0001",
        "epoch_0001_step_000001",
    ]  # fmt: skip
    train(config("checkpoint.every=1000 min"), tmp_path / "rarely")
    saved = [
        found.name for found in checkpoint.list_checkpoints(RunDirectory(tmp_path / "rarely").checkpoints)
    ]
    assert saved == ["epoch_0003"], "the end is always saved"
    assert_same_bits(weights(tmp_path / "often"), weights(tmp_path / "rarely"))


def test_checkpoints_every_other_epoch(tmp_path: Path) -> None:
    train(config("checkpoint.every=2", "checkpoint.keep=9", "train.epochs=5"), tmp_path, digits(70))
    saved = [found.name for found in checkpoint.list_checkpoints(RunDirectory(tmp_path).checkpoints)]
    assert saved == ["epoch_0002", "epoch_0004", "epoch_0005"]


CHILD = """
import sys
from pathlib import Path
from tests.train.made import config, train
train(config("train.epochs=12", "checkpoint.every=0.0001 min"), Path(sys.argv[1]))
"""


def start(path: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def progress(path: Path) -> int:
    """Return a number that grows with everything that is written."""
    return sum(file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()) if path.exists() else 0


def test_killed_at_random_moments_and_started_again(tmp_path: Path) -> None:
    """SIGKILL, each a random while after new files; the draws are seeded."""
    draws = random.Random(7)
    train(config("train.epochs=12", "checkpoint.every=0.0001 min"), tmp_path / "straight")
    path, recorded = tmp_path / "killed", b""
    for _ in range(2):
        child, before = start(path), progress(path)
        while child.poll() is None and not (path / "checkpoints").exists():
            time.sleep(0.01)
        while child.poll() is None and progress(path) == before:
            time.sleep(0.01)
        time.sleep(draws.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL, "the child was done before it could be killed"
        lines = (path / "metrics.jsonl").read_bytes() if (path / "metrics.jsonl").exists() else b""
        whole = lines[: lines.rfind(b"\n") + 1]
        assert whole.startswith(recorded), "a record was changed"
        recorded = whole
        assert [json.loads(line)["epoch"] for line in whole.splitlines()] == list(
            range(1, 1 + whole.count(b"\n"))
        )
    child = start(path)
    assert child.wait(60) == 0, child.communicate()[1]
    assert (path / "metrics.jsonl").read_bytes().startswith(recorded)
    assert [epoch for epoch, _ in results(path)] == list(range(1, 13))
    assert results(path) == results(tmp_path / "straight")
    assert_same_bits(weights(path), weights(tmp_path / "straight"))
    assert not [entry for entry in (path / "checkpoints").iterdir() if not entry.name.startswith("epoch_")]
