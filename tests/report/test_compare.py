from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysl.report.compare import compare, short_names
from tests.report.made import add_evaluation, curve, make_run, make_sweep

OTHER = {"name": "matrix_ssl", "mu": 0.5, "predictor": None}


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two runs of different methods and learning rates."""
    return [
        make_run(tmp_path / "a", curve(4, 0.5), lr=0.1, status={"state": "completed"}),
        make_run(tmp_path / "b", curve(3, 1.0), lr=0.3, method=OTHER, epochs=4),
    ]


def test_only_what_differs_is_shown(pair: list[Path]) -> None:
    assert compare(pair).config == {
        "method.name": ["simclr", "matrix_ssl"],
        "method.temperature": [0.5, "(absent)"],
        "optimizer.lr": [0.1, 0.3],
        "method.mu": ["(absent)", 0.5],
        "method.predictor": ["(absent)", None],
    }


def test_metrics_have_last_and_best(pair: list[Path]) -> None:
    comparison = compare(pair)
    first, second = comparison.metrics["train/loss"]
    assert first is not None
    assert second is not None
    losses = [row["train/loss"] for row in curve(4, 0.5)]
    assert (first.last, first.best.value, first.best.epoch) == pytest.approx((losses[-1], min(losses), 4))
    assert second.best.epoch == 3
    wait = comparison.metrics["perf/data_wait"][0]
    rank = comparison.metrics["diag/rankme"][0]
    assert wait is not None
    assert rank is not None
    assert rank.best.epoch == 1
    assert list(comparison.metrics)[:2] == ["train/loss", "eval/knn_top1"]


def test_a_metric_that_a_run_lacks_is_none(tmp_path: Path) -> None:
    labelled = make_run(tmp_path / "labelled", curve(1, 1.0))
    plain = make_run(tmp_path / "plain", [{"train/loss": 1.0}])
    comparison = compare([labelled, plain])
    assert comparison.metrics["eval/knn_top1"][1] is None
    assert comparison.metrics["train/loss"][1] is not None
    line = next(line for line in comparison.to_text().splitlines() if "eval/knn_top1" in line)
    assert line.split()[-1] == "–"


def test_evaluations_are_those_of_the_last_checkpoint(pair: list[Path]) -> None:
    add_evaluation(pair[0], "knn", 70.0, epoch=4, time=1.0)
    add_evaluation(pair[0], "knn", 60.0, epoch=2, time=2.0)
    add_evaluation(pair[1], "lbfgs", 90.0)
    comparison = compare(pair)
    assert comparison.evaluations["test/knn top1"] == [70.0, None]
    assert comparison.evaluations["test/knn top1 (untrained)"] == [60.0, None]
    assert comparison.evaluations["test/lbfgs top1"] == [None, 90.0]
    assert "test/lbfgs top1_std" in comparison.evaluations
    assert "top1_std" not in comparison.to_text()


def test_evaluations_on_other_images_stand_apart(pair: list[Path]) -> None:
    file = add_evaluation(pair[0], "knn", 70.0)
    changed = json.loads(file.read_text()) | {"data": {"changed": ["data.test: None -> other"]}}
    file.write_text(json.dumps(changed))
    add_evaluation(pair[1], "knn", 80.0)
    assert compare(pair).evaluations["test/knn top1"] == [None, 80.0]
    assert compare(pair).evaluations["test/knn; data.test: None -> other top1"] == [70.0, None]


def test_few_runs_stand_side_by_side(pair: list[Path]) -> None:
    text = compare(pair).to_text()
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["a"] == ["b"]
    assert rows["epochs"] == ["4/4", "3/4"]
    assert rows["optimizer.lr"] == ["0.1", "0.3"]
    assert rows["method.predictor"] == ["–", "null"]
    assert rows["state"] == ["completed", "created"]


def test_many_runs_stand_below_one_another_the_best_first(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", [0.2, 1.0, 0.6, 1.4, 0.8, 0.3, 1.2, 0.1])
    text = compare([sweep]).to_text()
    assert text.splitlines()[0].split()[:4] == ["run", "state", "epochs", "lr"]
    names = [line.split()[0] for line in text.splitlines()[2:]]
    assert names == [f"sweep/{number}" for number in (3, 6, 1, 4, 2, 0, 5, 7)]


def test_keys_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    runs = []
    for number in range(7):
        method = {"name": "simclr"} | {f"key{place}": number for place in range(10)}
        runs.append(make_run(tmp_path / f"run{number}", curve(1, 1.0), method=method))
    assert "2 more keys differ" in compare(runs).to_text()


def test_values_are_ready_for_json(pair: list[Path]) -> None:
    add_evaluation(pair[0], "knn", 70.0)
    values = json.loads(json.dumps(compare(pair).to_dict()))
    assert [run["name"] for run in values["runs"]] == ["a", "b"]
    assert values["metrics"]["train/loss"][0]["best"]["epoch"] == 4
    assert values["config"]["optimizer.lr"] == [0.1, 0.3]


def test_one_run_can_be_compared_with_itself_alone(pair: list[Path]) -> None:
    comparison = compare(pair[:1])
    assert comparison.config == {}
    assert "train/loss" in comparison.to_text()


def test_short_names_stay_apart() -> None:
    keys = ["optimizer.lr", "method.projector.width", "method.predictor.width"]
    assert short_names(keys) == ["lr", "method.projector.width", "method.predictor.width"]
