from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from raysl.errors import InputError
from raysl.report.records import Best, read_run, read_runs
from tests.report.made import add_evaluation, curve, make_run, make_sweep


def test_a_metric_that_is_not_measured_every_epoch(tmp_path: Path) -> None:
    rows = [{"train/loss": 3.0, "eval/knn_top1": 70.0}, {"train/loss": 1.0}, {"train/loss": 2.0}]
    run = read_run(make_run(tmp_path / "run", rows))
    assert run.curves["eval/knn_top1"] == ([1], [70.0])
    assert (run.last("train/loss"), run.best("train/loss")) == (2.0, Best(1.0, 2))
    assert (run.last("eval/knn_top1"), run.best("eval/knn_top1")) == (70.0, Best(70.0, 1))
    assert (run.last("diag/rankme"), run.best("diag/rankme")) == (None, None)
    assert run.epochs == 3


def test_times_are_no_metrics(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", curve(2, 1.0)))
    assert "time/first_step" not in run.curves
    assert "perf/data_wait" in run.curves


def test_a_torn_last_line_is_no_record(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", curve(3, 1.0))
    file = path / "metrics.jsonl"
    file.write_text(file.read_text()[:-20])
    assert read_run(path).epochs == 2


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (None, "created"),
        ({"state": "completed"}, "completed"),
        ({"state": "stopped", "cause": "nan"}, "nan"),
        ({"state": "stopped", "cause": "not continued"}, "stopped"),
        ({"state": "running"}, "running"),
        ({"state": "running", "host": socket.gethostname(), "pid": 2**22 + 1}, "interrupted"),
        ({"state": "running", "host": socket.gethostname(), "pid": os.getpid()}, "running"),
    ],
)
def test_states(tmp_path: Path, status: dict[str, Any] | None, state: str) -> None:
    assert read_run(make_run(tmp_path / "run", status=status, epochs=2)).state == state


def test_a_sweep_stands_for_its_trials_in_the_order_of_numbers(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", [1.0] * 11)
    (sweep / "trials" / "11").mkdir()
    assert [run.name for run in read_runs([sweep])] == [f"sweep/{number}" for number in range(11)]


def test_a_run_is_read_once_and_names_are_unique(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / folder / "run", curve(1, 1.0)) for folder in "ab")
    other = make_run(tmp_path / "other", curve(1, 1.0))
    names = [run.name for run in read_runs([first, second, other, first, str(other)])]
    assert names == [str(first), str(second), "other"]


def test_evaluations_come_oldest_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", curve(1, 1.0))
    add_evaluation(run, "lbfgs", 90.0, time=2.0)
    add_evaluation(run, "knn", 80.0, time=1.0)
    assert [result["label"] for result in read_run(run).evaluations] == ["knn", "lbfgs"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run nor a sweep"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="no trial yet"):
        read_runs([make_sweep(tmp_path / "sweep", [], trials=3)])


@pytest.mark.parametrize("file", ["config.yaml", "metrics.jsonl", "status.json"])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, file: str) -> None:
    run = make_run(tmp_path / "run", curve(1, 1.0), status={"state": "completed"})
    (run / file).write_text("{broken\n")
    with pytest.raises(InputError) as caught:
        read_run(run)
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)
