"""A run that diverges, collapses or lacks what it was asked for ends with a name for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from raysl.data.batches import Batch
from raysl.errors import InputError, TrainingStopped
from raysl.methods.base import LossReport
from raysl.train import checkpoint
from raysl.train.pretrain import prepare, pretrain
from raysl.train.rundir import RunDirectory
from raysl.train.session import Session
from tests.train.made import config, digits, train

# Without normalisation nothing holds the embeddings, and the decay takes 99 % of every weight at each step.
COLLAPSES = [
    "optimizer.name=adamw", "optimizer.lr=0.01", "optimizer.weight_decay=99", "schedule.name=constant",
    "method.projector.bn=false", "method.projector.last_bn=none",
]  # fmt: skip


def ended(path: Path, *overrides: str, method: str = "simclr") -> TrainingStopped:
    with pytest.raises(TrainingStopped) as caught:
        train(config(*overrides, method=method), path)
    return caught.value


@pytest.mark.parametrize("method", ["simclr", "matrix_ssl"])
def test_a_learning_rate_that_diverges_ends_within_one_report(tmp_path: Path, method: str) -> None:
    error = ended(tmp_path, "optimizer.lr=1e30", method=method)
    assert error.cause in {"nan", "inf"}
    assert error.epoch == 0
    assert "lower the learning rate" in str(error)
    assert "\n" not in str(error)
    run = RunDirectory(tmp_path)
    assert run.metrics() == []
    assert run.status() | {"state": "stopped", "cause": error.cause} == run.status()


def test_weights_that_break_in_the_last_step_are_neither_reported_nor_saved(tmp_path: Path) -> None:
    """One step an epoch: its loss is finite, what it leaves is not."""
    given = ["optimizer.lr=3e38", "optimizer.weight_decay=100", "train.epochs=1", "diagnostics.knn=false"]
    with pytest.raises(TrainingStopped, match="nan: the last step left weights that are not finite"):
        train(config(*given), tmp_path, digits(40))
    assert RunDirectory(tmp_path).metrics() == []
    assert checkpoint.list_checkpoints(RunDirectory(tmp_path).checkpoints) == []


def test_collapse_ends_within_one_report_and_again_when_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        error = ended(tmp_path, *COLLAPSES)
        assert (error.cause, error.epoch) == ("collapse", 0)
        assert "complete: embedding std" in str(error)


def test_collapse_may_be_watched_without_ending(tmp_path: Path) -> None:
    reports = train(config(*COLLAPSES, "diagnostics.collapse=false", method="simclr"), tmp_path)
    assert reports[-1].metrics["diag/embedding_std"] < 0.005


def test_epochs_before_the_end_stay_on_record(tmp_path: Path) -> None:
    """The rate is harmless for an epoch and then rises over the warm-up."""
    error = ended(tmp_path, "optimizer.lr=1e33", "schedule.warmup=10", "schedule.horizon=20",
                  "schedule.warmup_from=zero", "train.epochs=9", "train.batch_size=64")  # fmt: skip
    rows = RunDirectory(tmp_path).metrics()
    assert [row["epoch"] for row in rows] == list(range(1, error.epoch + 1))


def test_labels_that_are_asked_for_and_missing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"diagnostics.knn = true: there are no labels; remove the key or give"
    ):
        train(config("diagnostics.knn=true"), tmp_path, digits(labels=False))
    with pytest.raises(InputError, match=r"diagnostics.knn = true: data.selection.fraction is 0"):
        train(config("diagnostics.knn=true"), tmp_path, digits(held_out=0))


def test_without_labels_knn_is_left_out(tmp_path: Path) -> None:
    reports = train(config(), tmp_path, digits(70, labels=False))
    assert all("eval/knn_top1" not in report.metrics for report in reports)
    assert all("diag/rankme" in report.metrics for report in reports)


def test_more_neighbours_than_images_are_refused_before_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diagnostics.knn_k = 101: more than the 100 images that vote"):
        train(config("diagnostics.knn_k=101"), tmp_path)
    assert RunDirectory(tmp_path).metrics() == []


@pytest.fixture
def unlabelled_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def test_a_folder_without_labels_trains_and_one_line_says_what_is_off(
    tmp_path: Path, unlabelled_folder: Path
) -> None:
    run_config = config(f"data.source={unlabelled_folder}", "data.channels=1", "train.epochs=1")
    prepared = prepare(run_config)
    off = [line for line in prepared.lines if "eval/knn_top1" in line]
    assert len(off) == 1
    assert "no class folders" in off[0]
    told: list[str] = []
    result = pretrain(prepared, tmp_path / "run", threads=1, say=told.append)
    assert off[0] in told
    assert (result.epochs, "eval/knn_top1" in result.metrics) == (1, False)


def test_a_labelled_metric_asked_of_such_a_folder_is_refused_at_once(unlabelled_folder: Path) -> None:
    with pytest.raises(InputError, match="there are no labels"):
        prepare(config(f"data.source={unlabelled_folder}", "data.channels=1", "diagnostics.knn=true"))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.batch_size=30", "launch.workers=4"], "use 28 or 32"),
        (["train.batch_size=2", "launch.workers=4"], "use 4"),
        (["train.batch_size=5000"], "train.batch_size = 5000: larger than the"),
        (
            ["backbone.name=small_cnm"],
            "backbone.name = 'small_cnm': no such backbone; did you mean 'small_cnn'?",
        ),
        (["backbone.name=small_cnm", "launch.workers=2"], "did you mean 'small_cnn'?"),
        (["views.blur.kernel=99", "views.order=[blur]", "views.crop=null", "views.jitter=null"], "too wide"),
        (["data.source=nowhere"], "data.source: nowhere does not exist"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(overrides: list[str], told: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare(config(*overrides))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("diagnostics.knn=false", "diagnostics.knn is false"),
        ("data.selection.fraction=0", "no images are held out"),
    ],
)
def test_labelled_data_say_why_knn_is_off(override: str, why: str) -> None:
    assert f"online k-NN (eval/knn_top1) is off: {why}" in prepare(config(override)).lines


def test_weights_that_break_within_an_epoch_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss does not see them until the next step."""
    step = Session.step

    def breaking(session: Session, batch: Batch, index: int) -> tuple[LossReport, dict[str, Tensor | float]]:
        done = step(session, batch, index)
        next(session.method.parameters()).data.fill_(float("inf"))
        return done

    monkeypatch.setattr(Session, "step", breaking)
    with pytest.raises(TrainingStopped, match="weights that are not finite"):
        train(config(), tmp_path, stop=lambda: True)
    assert checkpoint.list_checkpoints(RunDirectory(tmp_path).checkpoints) == []


@pytest.mark.parametrize("best", ["train/loss", "eval/knn", "perf/images_per_s"])
def test_a_best_that_is_not_measured_is_refused(best: str) -> None:
    with pytest.raises(
        InputError, match=f"best = {best}: .*use eval/knn_top1, diag/rankme, diag/embedding_std or null"
    ):
        prepare(config(f"checkpoint.best={best}"))


@pytest.mark.parametrize("best", ["eval/knn_top1", "diag/rankme", "null"])
def test_a_best_that_is_measured_or_the_default_is_taken(best: str) -> None:
    prepared = prepare(config(f"checkpoint.best={best}", "diagnostics.knn=false"))
    assert prepared.config.checkpoint.best == (None if best == "null" else best)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told_before_the_start() -> None:
    with pytest.raises(InputError, match=r"train.device = cuda: this process sees no GPU"):
        prepare(config("train.device=cuda"))


def test_a_folder_of_other_things_gets_no_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty and not a run directory"):
        pretrain(prepare(config()), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_resolved_numbers_are_told_whatever_the_workers(workers: int) -> None:
    lines = prepare(config(f"launch.workers={workers}", "method.momentum=10%")).lines
    assert [line for line in lines if "teacher momentum" in line]
    assert [line for line in lines if "steps per epoch of 32 images" in line]
