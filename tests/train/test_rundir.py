"""A run directory belongs to one config, one process and one attempt at a time, and forgets nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raysl.errors import Fenced, InputError
from raysl.train.atomic import write_atomically
from raysl.train.rundir import RunDirectory
from tests.train.made import config

HOLD = """
import sys
from pathlib import Path
from raysl.train.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_second_process_is_told_who_holds_the_run_until_the_first_is_killed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError) as caught, run.lock():
        pytest.fail("the lock was given twice")
    assert f"in use by process {holder.pid} on " in str(caught.value)
    assert "\n" not in str(caught.value)
    holder.kill()
    holder.communicate()
    with run.lock():
        assert str(os.getpid()) in (run.path / ".lock").read_text()


def test_a_file_in_the_way_of_a_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(InputError, match=r"file: cannot be a run directory \(File exists\); choose another"),
        RunDirectory(tmp_path / "file").lock(),
    ):
        pytest.fail("a file was locked")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_newer_attempt_shuts_the_older_ones_out(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    first = run.claim()
    run.append_metrics(first, {"epoch": 1})
    second = run.claim()
    assert second == first + 1
    before = contents(tmp_path)
    with pytest.raises(Fenced, match=f"attempt {first} is over; attempt {second} has taken its place"):
        run.append_metrics(first, {"epoch": 2})
    with pytest.raises(Fenced), run.writing(first):
        pytest.fail("the older attempt may write")
    with pytest.raises(Fenced):
        run.claim(first)
    assert contents(tmp_path) == before
    run.append_metrics(second, {"epoch": 2})
    assert run.metrics() == [{"epoch": 1}, {"epoch": 2}]


def test_a_fence_may_be_given_and_claimed_again_and_only_grows(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.claim(7) == 7
    assert run.claim(7) == 7
    assert run.claim() == 8
    assert run.claim(100) == 100
    assert run.claim() == 101
    with pytest.raises(Fenced):
        run.claim(99)


@pytest.mark.parametrize(
    "torn", [b"{", b'{"epoch": 3, "metrics": {"train/loss": 0.1', b'{"epoch": 3}', b"\xff\x00"]
)
def test_a_torn_last_line_is_no_report_and_is_cut_off_by_the_next(tmp_path: Path, torn: bytes) -> None:
    run = RunDirectory(tmp_path)
    fence = run.claim()
    for epoch in (1, 2):
        run.append_metrics(fence, {"epoch": epoch})
    file = tmp_path / "metrics.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    run.append_metrics(fence, {"epoch": 3})
    assert file.read_bytes() == whole + b'{"epoch": 3}\n'


def test_a_line_in_the_middle_that_is_no_report_is_told_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n\x00\x00\n{"epoch": 3}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl: damaged, a line is not a report"):
        RunDirectory(tmp_path).metrics()


def test_the_same_config_continues_and_another_is_refused_with_the_difference(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert run.prepare(config()) is False
    assert run.prepare(config()) is True
    assert run.config() == config()
    before = contents(run.path)
    with pytest.raises(InputError) as caught:
        run.prepare(config("optimizer.lr=0.2", "train.seed=1"))
    told = str(caught.value)
    assert "optimizer.lr: 0.1 -> 0.2; train.seed: 0 -> 1" in told
    assert "choose another --name" in told
    assert "\n" not in told
    assert contents(run.path) == before


@pytest.mark.parametrize(
    "change",
    [
        "launch.workers=2",
        "launch.max_failures=0",
        "checkpoint.every=10 min",
        "checkpoint.keep=7",
        "train.epochs=9",
        "train.device=auto",
    ],
)
def test_what_cannot_change_the_result_may_change(tmp_path: Path, change: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.prepare(config("schedule.horizon=9"))
    changed = config("schedule.horizon=9", change)
    assert run.prepare(changed) is True
    assert run.config() == changed


@pytest.mark.parametrize(
    "change",
    [
        "train.epochs=9",  # the horizon follows it here
        "train.batch_size=16",
        "train.precision=bf16",
        "views.jitter.p=0.5",
        "method.gamma=0.5",
        "backbone.width=8",
        "data.selection.fraction=0.2",
        "schedule.warmup=1",
        "diagnostics.knn_k=3",
    ],
)
def test_what_changes_the_result_is_another_run(tmp_path: Path, change: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.prepare(config())
    with pytest.raises(InputError, match="holds a run of another config"):
        run.prepare(config(change))


def test_a_horizon_equal_to_the_epochs_may_be_spelled_out(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.prepare(config())
    assert run.prepare(config("schedule.horizon=3")) is True


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty and not a run directory; choose another --name"):
        RunDirectory(tmp_path).prepare(config())
    assert contents(tmp_path) == {str(tmp_path / "thesis.tex"): b"precious"}


def test_what_a_killed_start_left_is_no_obstacle(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        run.claim()
        (run.path / ".config.yaml.12345").write_text("half a con")
        assert run.prepare(config()) is False
    assert run.config() == config()


def test_opening_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run directory \(it has no config.yaml\); raysl ls shows"):
        RunDirectory.open(tmp_path)


def test_a_damaged_config_is_told_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train: {epochs: 0}")
    with pytest.raises(
        InputError, match=r"config.yaml: train.epochs = 0: expected greater than or equal to 1"
    ):
        RunDirectory(tmp_path).config()


def test_a_run_whose_process_is_gone_is_interrupted_not_running(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.status() == {"state": "created"}
    program = (
        "from pathlib import Path; from raysl.train.rundir import RunDirectory;"
        f"RunDirectory(Path({str(tmp_path)!r})).set_status('running')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert run.status()["state"] == "interrupted"
    run.set_status("running", note="mine")
    assert run.status()["state"] == "running"
    assert run.status()["note"] == "mine"


def test_atomic_writes_replace_whole_files_and_leave_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    write_atomically(file, "one")
    write_atomically(file, "two")
    assert contents(tmp_path) == {str(file): b"two"}
