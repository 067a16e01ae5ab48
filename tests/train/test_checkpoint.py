"""Checkpoints survive what disks and kills do to them, and say so when they did not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raysl.errors import InputError, RayslError
from raysl.train import checkpoint
from raysl.train.checkpoint import Position, TrainingState
from raysl.train.rundir import RunDirectory
from tests.train.made import assert_same_bits, config, digits, results, train, weights


def state(epoch: int, step: int = 0, metrics: dict[str, float] | None = None) -> TrainingState:
    torch.manual_seed(100 * epoch + step)
    return TrainingState(
        Position(epoch, step),
        model={"a.weight": torch.randn(3, 2), "a.count": torch.tensor(epoch), "b": torch.randn(4).double()},
        optimizer={"a.weight.step": torch.tensor(7.0), "a.weight.exp_avg": torch.randn(3, 2).T},
        partial={"loss": 0.1 + epoch, "count of loss": 3.0} if step else {},
        metrics=metrics or {},
    )


def flip(file: Path, at: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(bytes(content))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    saved = state(3, 5, {"eval/knn_top1": 1 / 3})
    loaded = checkpoint.load(checkpoint.save(tmp_path, saved))
    assert (loaded.position, loaded.partial, loaded.metrics) == (saved.position, saved.partial, saved.metrics)
    assert_same_bits(dict(loaded.model), dict(saved.model))
    assert_same_bits(dict(loaded.optimizer), dict(saved.optimizer))
    assert names(tmp_path) == ["epoch_0003_step_000005"]
    assert names(tmp_path / "epoch_0003_step_000005") == [
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_run_goes_on_from_its_checkpoint_to_the_bit(tmp_path: Path, optimizer: str) -> None:
    given = [f"optimizer.name={optimizer}", "optimizer.lr=0.01", "schedule.horizon=4"]
    train(config(*given, "train.epochs=4"), tmp_path / "straight", digits(70))
    train(config(*given, "train.epochs=2"), tmp_path / "resumed", digits(70))
    train(config(*given, "train.epochs=4"), tmp_path / "resumed", digits(70))
    assert results(tmp_path / "resumed") == results(tmp_path / "straight")
    assert_same_bits(weights(tmp_path / "resumed"), weights(tmp_path / "straight"))


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
@pytest.mark.parametrize("at", [0, 20, -2])
def test_a_flipped_bit_anywhere_is_seen_and_the_checkpoint_before_it_used(
    tmp_path: Path, file: str, at: int
) -> None:
    before, after = checkpoint.save(tmp_path, state(1)), checkpoint.save(tmp_path, state(2))
    flip(after / file, at)
    told: list[str] = []
    assert checkpoint.latest(tmp_path, told.append) == before
    assert len(told) == 1
    assert str(after) in told[0]
    assert "using the checkpoint before it" in told[0]
    with pytest.raises(InputError, match=r"damaged|not a whole checkpoint"):
        checkpoint.load(after)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_missing_or_shortened_file_is_seen(tmp_path: Path, file: str) -> None:
    before, after = checkpoint.save(tmp_path, state(1)), checkpoint.save(tmp_path, state(2))
    (after / file).write_bytes((after / file).read_bytes()[:-1])
    assert checkpoint.latest(tmp_path, lambda line: None) == before
    (after / file).unlink()
    assert checkpoint.latest(tmp_path, lambda line: None) == before


def test_a_manifest_that_covers_nothing_proves_nothing(tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path, state(1))
    (saved / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        checkpoint.verify(saved)


def test_another_format_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_FORMAT", 99)
    saved = checkpoint.save(tmp_path, state(1))
    monkeypatch.undo()
    with pytest.raises(InputError, match="format 99; this raysl reads format 1"):
        checkpoint.load(saved)


def test_half_written_folders_are_no_checkpoints_and_are_cleaned_away(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    half = tmp_path / f".epoch_0009.{dead.stdout.strip()}"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"torn")
    assert checkpoint.latest(tmp_path) is None
    saved = checkpoint.save(tmp_path, state(1))
    assert checkpoint.latest(tmp_path) == saved
    checkpoint.prune(tmp_path, keep=1, best=None)
    assert names(tmp_path) == ["epoch_0001"]


def test_what_is_in_the_way_of_an_aside_folder_is_replaced(tmp_path: Path) -> None:
    half = tmp_path / f".epoch_0001.{os.getpid()}"
    half.mkdir()
    (half / "junk").write_bytes(b"torn")
    assert names(checkpoint.save(tmp_path, state(1))) == [
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip


def test_order_is_that_of_positions_not_of_names(tmp_path: Path) -> None:
    for position in [(2, 0), (10000, 0), (9999, 7), (9999, 0), (1, 3)]:
        checkpoint.save(tmp_path, state(*position))
    (tmp_path / "epoch_x").mkdir()
    (tmp_path / "damaged-epoch_0002").mkdir()
    assert [found.name for found in checkpoint.list_checkpoints(tmp_path)] == [
        "epoch_0001_step_000003", "epoch_0002", "epoch_9999", "epoch_9999_step_000007", "epoch_10000",
    ]  # fmt: skip


def test_prune_keeps_the_last_ones_and_the_best(tmp_path: Path) -> None:
    scores = {1: 10.0, 2: 50.0, 3: 50.0, 4: 20.0, 5: 30.0, 6: 40.0}
    for epoch, score in scores.items():
        checkpoint.save(tmp_path, state(epoch, metrics={"eval/knn_top1": score}))
    # In the middle of an epoch the metrics are those of the epoch before: not a score of these weights.
    checkpoint.save(tmp_path, state(3, 4, {"eval/knn_top1": 99.0}))
    checkpoint.prune(tmp_path, keep=2, best="eval/knn_top1")
    assert names(tmp_path) == ["epoch_0003", "epoch_0005", "epoch_0006"]
    checkpoint.prune(tmp_path, keep=1, best=None)
    assert names(tmp_path) == ["epoch_0006"]


def test_without_the_metric_the_last_ones_are_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, state(epoch))
    checkpoint.prune(tmp_path, keep=2, best="eval/knn_top1")
    assert names(tmp_path) == ["epoch_0002", "epoch_0003"]
    assert checkpoint.best_checkpoint(tmp_path, "eval/knn_top1") is None


def test_damaged_ones_are_set_aside_and_neither_counted_nor_lost(tmp_path: Path) -> None:
    for epoch in (2, 4, 6):
        checkpoint.save(tmp_path, state(epoch))
    flip(tmp_path / "epoch_0006" / "model.safetensors")
    damaged = (tmp_path / "epoch_0006" / "model.safetensors").read_bytes()
    told: list[str] = []
    assert checkpoint.recover(tmp_path, told.append) == tmp_path / "epoch_0004"
    assert told[0].endswith("kept as damaged-epoch_0006, using the checkpoint before it")
    checkpoint.save(tmp_path, state(4, 3))
    checkpoint.prune(tmp_path, keep=1, best=None)
    assert names(tmp_path) == ["damaged-epoch_0006", "epoch_0004_step_000003"]
    assert (tmp_path / "damaged-epoch_0006" / "model.safetensors").read_bytes() == damaged

    checkpoint.save(tmp_path, state(6))
    flip(tmp_path / "epoch_0006" / "state.json")
    checkpoint.recover(tmp_path, told.append)
    assert names(tmp_path) == ["damaged-epoch_0006", "damaged-epoch_0006-1", "epoch_0004_step_000003"]


def test_a_run_with_a_damaged_checkpoint_ends_as_if_nothing_had_happened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = ["schedule.horizon=4", "checkpoint.keep=2", "checkpoint.best=null"]
    train(config(*given, "train.epochs=4"), tmp_path / "straight", digits(70))
    run = RunDirectory(tmp_path / "hurt")
    train(config(*given, "train.epochs=3"), run.path, digits(70))
    recorded = (run.path / "metrics.jsonl").read_bytes()
    flip(run.checkpoints / "epoch_0003" / "optimizer.safetensors", 300)
    reports = train(config(*given, "train.epochs=4"), run.path, digits(70))

    assert "epoch_0003: damaged: optimizer.safetensors differ from the manifest" in caplog.text
    assert [report.epoch for report in reports] == [4]
    assert (run.path / "metrics.jsonl").read_bytes().startswith(recorded)
    assert results(run.path) == results(tmp_path / "straight")
    assert_same_bits(weights(run.path), weights(tmp_path / "straight"))
    assert names(run.checkpoints) == ["damaged-epoch_0003", "epoch_0003", "epoch_0004"]


def test_when_all_are_damaged_training_starts_over_and_keeps_every_record(tmp_path: Path) -> None:
    given = ["schedule.horizon=3"]
    train(config(*given, "train.epochs=3"), tmp_path / "straight", digits(70))
    run = RunDirectory(tmp_path / "hurt")
    train(config(*given, "train.epochs=2"), run.path, digits(70))
    for saved in checkpoint.list_checkpoints(run.checkpoints):
        flip(saved / "model.safetensors")
    assert [report.epoch for report in train(config(*given, "train.epochs=3"), run.path, digits(70))] == [3]
    assert results(run.path) == results(tmp_path / "straight")
    assert_same_bits(weights(run.path), weights(tmp_path / "straight"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RayslError, match="epoch_0001: not written"):
        checkpoint.save(tmp_path / "file" / "checkpoints", state(1))


def test_the_state_file_is_plain_json(tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path, state(2, 1, {"train/loss": 0.5}))
    assert json.loads((saved / "state.json").read_text()) == {
        "format": 1,
        "position": {"epoch": 2, "step": 1},
        "partial": {"loss": 2.1, "count of loss": 3.0},
        "metrics": {"train/loss": 0.5},
    }
