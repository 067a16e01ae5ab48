from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raysl.errors import InputError
from raysl.evaluation.locate import locate


def test_last_is_the_latest(trained: Path) -> None:
    found = locate(trained)
    assert found.checkpoint.name == "epoch_0002"
    assert (found.epoch, found.step) == (2, 0)
    assert found.config.train.seed == 7
    assert found.sha256 == hashlib.sha256(found.weights.read_bytes()).hexdigest()


def test_best_is_by_the_runs_metric(run: Path) -> None:
    for name, value in (("epoch_0001", 99.0), ("epoch_0002", 98.0)):
        _set_metric(run / "checkpoints" / name, value)
    assert locate(run, "best").checkpoint.name == "epoch_0001"


def test_best_without_the_metric_is_refused(run: Path) -> None:
    for folder in (run / "checkpoints").iterdir():
        _set_metric(folder, None)
    with pytest.raises(InputError, match=r"no checkpoint has eval/knn_top1.*epoch_0001, epoch_0002"):
        locate(run, "best")


@pytest.mark.parametrize("as_path", [False, True])
def test_a_checkpoint_by_name_or_path(trained: Path, as_path: bool) -> None:
    wanted = trained / "checkpoints" / "epoch_0001" if as_path else "epoch_0001"
    assert locate(trained, wanted).epoch == 1


def test_a_checkpoint_directory_stands_for_its_run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained / "checkpoints" / "epoch_0001"
    found = locate(folder)
    assert (found.run.path, found.epoch) == (trained, 1)
    monkeypatch.chdir(folder)
    assert locate(".").run.path.resolve() == trained.resolve()


def test_a_checkpoint_directory_and_a_name_are_one_too_many(trained: Path) -> None:
    with pytest.raises(InputError, match="is a checkpoint already"):
        locate(trained / "checkpoints" / "epoch_0001", "best")


def test_an_unknown_name_is_told_the_nearest(trained: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'epoch_0002'"):
        locate(trained, "epoch_002")


def test_a_checkpoint_of_another_run_is_refused(trained: Path, run: Path) -> None:
    with pytest.raises(InputError, match="not a checkpoint of"):
        locate(run, trained / "checkpoints" / "epoch_0001")


def test_a_damaged_last_one_is_passed_over_aloud(
    run: Path, damage: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(run / "checkpoints" / "epoch_0002" / "model.safetensors", 1)
    with caplog.at_level(logging.WARNING, "raysl"):
        assert locate(run).checkpoint.name == "epoch_0001"
    assert "damaged" in caplog.text


def test_a_damaged_one_that_was_named_is_refused(run: Path, damage: Callable[[Path, int], None]) -> None:
    damage(run / "checkpoints" / "epoch_0002" / "model.safetensors", 1)
    with pytest.raises(InputError, match=r"damaged: model\.safetensors"):
        locate(run, "epoch_0002")


def test_a_run_without_checkpoints_is_refused(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="no whole checkpoint yet"):
        locate(run)


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        locate(tmp_path)


def _set_metric(checkpoint: Path, value: float | None) -> None:
    """Change the k-NN accuracy a checkpoint carries, with its manifest."""
    state = checkpoint / "state.json"
    facts = json.loads(state.read_text())
    facts["metrics"] = {} if value is None else {"eval/knn_top1": value}
    state.write_text(json.dumps(facts))
    manifest = checkpoint / "manifest.json"
    sums = json.loads(manifest.read_text())
    sums["state.json"] = hashlib.sha256(state.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(sums))
