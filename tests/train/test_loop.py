"""What the loop does in a run that nobody disturbs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from raysl.train.context import Context, StepNews
from raysl.train.events import EventWriter
from raysl.train.loop import epochs
from raysl.train.rundir import RunDirectory
from raysl.train.session import Session
from tests.train.made import (
    EXACT_VIEWS,
    METHODS,
    assert_same_bits,
    config,
    digits,
    results,
    train,
    weights,
)

CURVES = Path(__file__).parent / "data" / "curves.json"
TAGS = {
    "train/loss",
    "train/lr",
    "eval/knn_top1",
    "diag/rankme",
    "diag/embedding_std",
    "perf/images_per_s",
    "perf/data_wait",
}


def curve(method: str, path: Path) -> dict[str, list[float]]:
    """Return 20 steps of a method in float64, one to an epoch."""
    optimizer = "adamw" if method == "simclr" else "sgd"
    run_config = config(
        "train.precision=float64", "train.epochs=20", "schedule.warmup=20%", "checkpoint.every=20",
        "diagnostics.every=20", f"optimizer.name={optimizer}", "optimizer.lr=0.02",
        "optimizer.weight_decay=1e-3", method=method, views=EXACT_VIEWS,
    )  # fmt: skip
    reports = train(run_config, path, digits(60))
    tags = ("train/loss", "diag/rankme", "diag/embedding_std")
    return {tag: [report.metrics[tag] for report in reports] for tag in tags}


@pytest.mark.parametrize("method", METHODS)
def test_twenty_seeded_steps_reproduce_the_stored_curve(method: str, tmp_path: Path) -> None:
    """The curves were made by `curve` above; they may change only where the mathematics is meant to."""
    stored: dict[str, list[float]] = json.loads(CURVES.read_text())[method]
    made = curve(method, tmp_path)
    assert len(made["train/loss"]) == 20
    for tag, values in stored.items():
        assert made[tag] == pytest.approx(values, rel=1e-9), tag


@pytest.mark.parametrize("method", METHODS)
def test_every_method_reports_the_same_tags_and_its_own_parts(method: str, tmp_path: Path) -> None:
    first, *others = train(config("train.grad_clip=1", method=method), tmp_path, digits(70))
    parts = {"matrix_ssl": {"train/correlation", "train/alignment", "train/momentum", "train/taylor_radius"}}
    assert first.metrics.keys() == TAGS | {"train/grad_norm"} | parts.get(method, set())
    assert [report.epoch for report in (first, *others)] == [1, 2, 3]
    assert all(math.isfinite(value) for report in (first, *others) for value in report.metrics.values())
    assert all(report.metrics.keys() == first.metrics.keys() for report in others)


def test_records_are_the_reports_with_their_times(tmp_path: Path) -> None:
    reports = train(config(), tmp_path, digits(70))
    rows = RunDirectory(tmp_path).metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    for row, report in zip(rows, reports, strict=True):
        assert {tag: v for tag, v in row["metrics"].items() if not tag.startswith("time/")} == report.metrics
    # Strict JSON: what cannot be read elsewhere is no record.
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_first_report_of_each_attempt_tells_when_it_took_its_first_step(tmp_path: Path) -> None:
    train(config("schedule.horizon=3", "train.epochs=2"), tmp_path, digits(70))
    train(config("schedule.horizon=3"), tmp_path, digits(70))
    rows = RunDirectory(tmp_path).metrics()
    assert [epoch + 1 for epoch, row in enumerate(rows) if "time/first_step" in row["metrics"]] == [1, 3]
    assert rows[1]["time"] < rows[2]["metrics"]["time/first_step"] < rows[2]["time"]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        torch.manual_seed(hash(name) % 1000)  # the surroundings' generator must not matter
        train(config(f"train.seed={seed}"), tmp_path / name, digits(70))
    assert_same_bits(weights(tmp_path / "one"), weights(tmp_path / "same"))
    assert results(tmp_path / "one") == results(tmp_path / "same")
    assert results(tmp_path / "one")[0] != results(tmp_path / "other")[0]


def test_the_surroundings_generator_decides_nothing_but_is_seeded_per_step(tmp_path: Path) -> None:
    """Dropout, say, has to draw the same numbers in a resumed run."""
    session = Session(config(), digits(), torch.device("cpu"))
    batch = next(session.feed.epoch(0))
    session.step(batch, 5)
    first = torch.rand(3)
    session.step(batch, 6)
    assert not torch.equal(first, torch.rand(3))
    session.step(batch, 5)
    assert torch.equal(first, torch.rand(3))


def test_the_teacher_follows_the_student_by_its_momentum(tmp_path: Path) -> None:
    run_config = config("optimizer.lr=0.05", "schedule.name=constant")
    session = Session(run_config, digits(), torch.device("cpu"))
    name = "network.0.network.layers.0.weight"
    teacher, student = (
        session.method.get_submodule("teacher").state_dict()[name],
        session.method.backbone.state_dict()["network.layers.0.weight"],
    )
    expected = teacher.clone()
    assert torch.equal(teacher, student)
    for index, batch in enumerate(session.feed.epoch(0)):
        _, scalars = session.step(batch, index)
        momentum = scalars["momentum"]
        assert isinstance(momentum, float)
        assert momentum == pytest.approx(1 - 0.1 * (1 + math.cos(math.pi * index / 12)) / 2)
        expected = momentum * expected + (1 - momentum) * student
    assert torch.allclose(teacher, expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(teacher, student, rtol=1e-3)


def test_gradients_are_clipped_to_the_given_norm(tmp_path: Path) -> None:
    """With plain SGD a step moves the weights by lr times the clipped norm."""
    run_config = config(
        "train.grad_clip=1e-3", "optimizer.momentum=0", "optimizer.lr=1", "schedule.name=constant"
    )
    session = Session(run_config, digits(), torch.device("cpu"))
    trainable = [p for p in session.method.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trainable]
    _, scalars = session.step(next(session.feed.epoch(0)), 0)
    moved = torch.stack([(p.detach() - old).norm() for p, old in zip(trainable, before, strict=True)]).norm()
    assert float(scalars["grad_norm"]) > 1e-2
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_follows_float32_and_keeps_its_weights_in_float32(method: str, tmp_path: Path) -> None:
    plain = train(config(method=method), tmp_path / "float32")
    mixed = train(config("train.precision=bf16", method=method), tmp_path / "bf16")
    losses = [report.metrics["train/loss"] for report in mixed]
    assert losses == pytest.approx([report.metrics["train/loss"] for report in plain], abs=0.1)
    assert losses != [report.metrics["train/loss"] for report in plain]
    kinds = {tensor.dtype for tensor in weights(tmp_path / "bf16").values() if tensor.is_floating_point()}
    assert kinds == {torch.float32}


def test_float64_is_float64_throughout(tmp_path: Path) -> None:
    train(config("train.precision=float64"), tmp_path, digits(70))
    kinds = {
        tensor.dtype
        for name, tensor in weights(tmp_path).items()
        if tensor.is_floating_point() and not name.endswith(".step")
    }
    assert kinds == {torch.float64}


def test_three_views_for_a_method_that_takes_them(tmp_path: Path) -> None:
    reports = train(config("views.count=3", method="simclr"), tmp_path, digits(70))
    assert len(reports) == 3


def test_news_come_after_every_step_and_carry_a_loss(tmp_path: Path) -> None:
    run, told = RunDirectory(tmp_path), list[StepNews]()
    run.prepare(config())
    list(epochs(config(), Context(run, digits(), on_step=told.append)))
    assert [(news.epoch, news.step) for news in told] == [(e, s) for e in (1, 2, 3) for s in (1, 2, 3, 4)]
    assert {news.steps for news in told} == {4}
    assert all(math.isfinite(news.loss) and news.images_per_s > 0 for news in told)


def test_knn_is_measured_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    reports = train(config("diagnostics.every=2", "train.epochs=5"), tmp_path, digits(70))
    assert [r.epoch for r in reports if "eval/knn_top1" in r.metrics] == [2, 4, 5]


def test_knn_does_not_touch_training(tmp_path: Path) -> None:
    train(config(), tmp_path / "with", digits(70))
    train(config("diagnostics.knn=false"), tmp_path / "without", digits(70))
    assert_same_bits(weights(tmp_path / "with"), weights(tmp_path / "without"))
    assert "eval/knn_top1" not in results(tmp_path / "without")[0][1]


def events(path: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(path / "tensorboard"))
    return accumulator.Reload()


def test_tensorboard_shows_every_tag_the_views_and_the_spectrum(tmp_path: Path) -> None:
    train(config("diagnostics.images=true"), tmp_path, digits(70))
    found = events(tmp_path)
    rows = RunDirectory(tmp_path).metrics()
    assert set(found.Tags()["scalars"]) == {tag for tag in rows[0]["metrics"] if not tag.startswith("time/")}
    assert found.Tags()["images"] == ["views"]
    assert found.Tags()["histograms"] == ["diag/spectrum"]
    points = found.Scalars("train/loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == pytest.approx([row["metrics"]["train/loss"] for row in rows])


def test_tensorboard_shows_each_epoch_of_a_continued_run_once(tmp_path: Path) -> None:
    given = ["schedule.horizon=4", "diagnostics.images=true"]
    for count in (2, 4):
        train(config(*given, f"train.epochs={count}"), tmp_path, digits(70))
    found = events(tmp_path)
    assert [point.step for point in found.Scalars("diag/rankme")] == [1, 2, 3, 4]
    assert len(found.Images("views")) == 1


def test_tensorboard_forgets_what_a_life_that_was_cut_off_wrote_of_later_epochs(tmp_path: Path) -> None:
    for first, last in ((1, 3), (3, 4)):
        writer = EventWriter(tmp_path / "tensorboard", next_epoch=first)
        for epoch in range(first, last + 1):
            writer.scalars(epoch, {"train/loss": 10.0 * first + epoch, "time/first_step": 1.0})
        writer.close()
    points = events(tmp_path).Scalars("train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 11.0), (2, 12.0), (3, 33.0), (4, 34.0)]
    assert events(tmp_path).Tags()["scalars"] == ["train/loss"]
