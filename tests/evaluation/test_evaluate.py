from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raysl.config import yaml
from raysl.data.decoded import normalization
from raysl.errors import InputError, RayslError
from raysl.evaluation import encoders
from raysl.evaluation.evaluate import evaluate, prepare_evaluation
from raysl.evaluation.result import compare_published, read_results
from raysl.train.config import Published
from raysl.train.rundir import RunDirectory
from tests.evaluation.conftest import train


def _images(folder: Path, *, classes: int = 2, each: int = 12, seed: int = 0) -> Path:
    """Write small noisy images, one folder for each class, or flat when `classes` is 0."""
    random = np.random.default_rng(seed)
    for number in range(max(1, classes) * each):
        label = number % max(1, classes)
        parent = folder / f"class{label}" if classes else folder
        parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (8, 8, 3)) + 60 * label
        Image.fromarray(pixels.astype(np.uint8)).save(parent / f"{number:03d}.png")
    return folder


def _folder_run(tmp_path: Path, source: Path, **data: Any) -> Path:
    changes = {
        "data": {"source": str(source), **data},
        "views": {"preset": "none", "shift": {"pixels": 1}},
        "train": {"epochs": 1, "batch_size": 8},
    }
    return train(tmp_path / "run", changes)


def test_the_result_is_kept_with_its_whole_protocol(run: Path) -> None:
    result = evaluate(run)
    file = run / "evaluation" / "knn-test-epoch_0002.json"
    assert result.path == file
    kept = json.loads(file.read_text())
    assert kept == json.loads(json.dumps(result.to_dict()))
    assert read_results(run / "evaluation") == [kept]
    assert kept["options"] == {"k": 5, "metric": "euclidean", "temperature": None}
    manifest = json.loads((run / "checkpoints" / "epoch_0002" / "manifest.json").read_text())
    assert kept["checkpoint"] == {
        "name": "epoch_0002",
        "sha256": manifest["model.safetensors"],
        "epoch": 2,
        "step": 0,
    }
    data = kept["data"]
    assert (data["source"], data["train_side"], data["classes"]) == ("digits", "train + selection", 10)
    assert data["train_images"] + data["test_images"] == 1797
    assert (kept["split"], kept["seed"]) == ("test", 7)
    assert kept["view"]["shown"] == [1, 8, 8]
    assert len(kept["view"]["mean"]) == 1
    assert kept["encoder"]["name"] == "small_cnn"
    assert kept["versions"]["torch"]
    assert 80.0 < kept["metrics"]["top1"] <= 100.0
    assert kept["baselines"] == {}


def test_the_same_evaluation_gives_the_same_scores_and_one_file(run: Path) -> None:
    first = evaluate(run, "linear-cached", ["epochs=3"])
    second = evaluate(run, "linear-cached", ["epochs=3", "features.cache=false"])
    assert second.metrics == first.metrics
    assert [path.name for path in (run / "evaluation").glob("*.json")] == [
        "linear-cached-epochs3-test-epoch_0002.json"
    ]


def test_options_split_checkpoint_and_baselines_have_files_of_their_own(run: Path) -> None:
    evaluate(run)
    evaluate(run, overrides=["k=20", "metric=cosine", "temperature=0.1"])
    evaluate(run, checkpoint="epoch_0001")
    evaluate(run, split="selection")
    evaluate(run, baselines=True)
    assert {path.stem for path in (run / "evaluation").glob("*.json")} == {
        "knn-test-epoch_0002",
        "knn-k20-metric_cosine-temperature0.1-test-epoch_0002",
        "knn-test-epoch_0001",
        "knn-selection-epoch_0002",
        "knn-baselines-test-epoch_0002",
    }


def test_the_selection_split_is_judged_after_what_was_trained_on(run: Path) -> None:
    test, selection = (prepare_evaluation(run, split=split).images for split in ("test", "selection"))
    assert list(test.train) == ["train", "selection"]
    assert list(selection.train) == ["train"]
    shared = set(selection.test.ids.tolist()) & set(selection.train["train"].ids.tolist())
    assert not shared
    assert set(selection.test.ids.tolist()) == set(test.train["selection"].ids.tolist())
    trained_on = selection.train["train"]
    of_training = normalization(RunDirectory(run).config().data, trained_on)
    assert selection.views.normalization == test.views.normalization == of_training


def test_knn_few_compares_with_the_baselines_in_pairs(run: Path) -> None:
    result = evaluate(run, "knn-few")
    assert set(result.baselines) == set(result.differences) == {"untrained", "raw_pixels"}
    for name, gap in result.differences.items():
        assert gap.pairs == len(result.repeats[name]) == 10
        assert gap.low < gap.mean < gap.high
        expected = result.metrics["top1"] - result.baselines[name]["top1"]
        assert gap.mean == pytest.approx(expected)
    # Ten draws of fifty labels from the 1,797 digits; both baselines are fixed by data and seed.
    assert result.baselines["raw_pixels"]["top1"] == pytest.approx(85.0, abs=2.0)
    assert 65.0 < result.baselines["untrained"]["top1"] < result.baselines["raw_pixels"]["top1"]
    assert result.differences["untrained"].low > 0
    assert "trained - untrained: +" in result.describe()


def test_scores_are_told_beside_the_published_ones(run: Path) -> None:
    file = run / "config.yaml"
    published = {"published": {"metric": "knn/top1", "value": 91.5, "source": "a paper, table 1"}}
    file.write_text(yaml.dump({**yaml.parse(file.read_text(), "config"), **published}))
    result = evaluate(run, "knn")
    (found,) = result.published
    assert found.difference == pytest.approx(result.metrics["top1"] - 91.5)
    told = f"the recipe's published knn/top1 91.50 (a paper, table 1); this run {found.difference:+.2f}"
    assert f"  {told}\n" in result.describe()
    assert result.to_dict()["published"] == [
        {"metric": "knn/top1", "value": 91.5, "source": "a paper, table 1", "difference": found.difference}
    ]
    assert f"{told[:-6]}" not in evaluate(run, "knn", split="selection").describe()
    assert "the options differ from the protocol's own" in evaluate(run, "knn", ["k=1"]).describe()


def test_nothing_is_told_without_a_published_number_of_the_protocol() -> None:
    one = Published(metric="linear-cached/top1", value=90.0, source="x")
    assert compare_published([one], "knn", {"top1": 50.0}) == []
    assert compare_published([one], "linear-cached", {"top5": 50.0}) == []


def test_features_are_kept_and_damaged_ones_computed_again(run: Path) -> None:
    expected = evaluate(run).metrics
    files = sorted((run / "evaluation" / "features").iterdir())
    assert [file.name for file in files] == [
        f"epoch_0002-{split}.safetensors" for split in ("selection", "test", "train")
    ]
    times = [file.stat().st_mtime_ns for file in files]
    assert evaluate(run, "lbfgs").metrics["top1"] > 80.0
    assert [file.stat().st_mtime_ns for file in files] == times
    files[2].write_bytes(files[2].read_bytes()[:1000])
    assert evaluate(run).metrics == expected
    assert files[2].stat().st_size > 1000


def test_other_weights_do_not_meet_kept_features(run: Path) -> None:
    """A checkpoint that was replaced under its name has another key."""
    evaluate(run)
    first, last = (run / "checkpoints" / f"epoch_000{number}" for number in (1, 2))
    expected = evaluate(run, checkpoint="epoch_0001").metrics
    for file in first.iterdir():
        (last / file.name).write_bytes(file.read_bytes())
    assert evaluate(run).metrics == expected


def test_tensorboard_gets_the_scores_at_the_checkpoints_epoch(run: Path) -> None:
    result = evaluate(run, "knn-few", ["draws=2"])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    (point,) = events.Scalars("test/knn_few_draws2_top1")
    assert point.step == 2
    assert point.value == pytest.approx(result.metrics["top1"], rel=1e-6)
    assert [p.step for p in events.Scalars("train/loss")] == [1, 2]


def test_tensorboard_is_left_alone_while_the_run_is_trained(run: Path) -> None:
    RunDirectory(run).set_status("running")
    before = set((run / "tensorboard").iterdir())
    result = evaluate(run)
    assert set((run / "tensorboard").iterdir()) == before
    assert "not in TensorBoard" in result.notes[0]
    assert "note: not in TensorBoard" in result.describe()


def test_nothing_in_the_run_is_changed(run: Path) -> None:
    def content() -> dict[str, bytes]:
        kept = [path for path in run.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
        return {str(path): path.read_bytes() for path in kept if "evaluation" not in path.parts}

    before = content()
    evaluate(run, "knn", baselines=True)
    assert content() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "kn"}, r"no evaluation protocol 'kn'; did you mean 'knn'\?"),
        ({"overrides": ["kk=3"]}, "kk = 3: unknown key; did you mean 'k'"),
        ({"overrides": ["k=0"]}, "override 'k=0': k = 0: expected greater than or equal to 1"),
        ({"overrides": ["k=100000"]}, "k must lie between 1 and"),
        ({"overrides": ["data.selection.fraction=0"]}, "without data.selection"),
        ({"overrides": ["train.epochs=3"]}, "train"),
        ({"overrides": ["views.count=4"]}, "evaluation takes data"),
        ({"overrides": ["features.batch=4"]}, "did you mean 'batch_size'"),
        ({"overrides": ["data.channels=3"]}, r"takes 1 channel.*set data.channels=1"),
        ({"overrides": ["data.test=nowhere"]}, "data.test"),
        ({"split": "train"}, "no split 'train'"),
        ({"checkpoint": "epoch_3"}, "no checkpoint 'epoch_3'"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        evaluate(run, **arguments)
    assert "\n" not in str(caught.value)


def test_without_a_test_split_it_says_how_to_give_one(tmp_path: Path) -> None:
    run = _folder_run(tmp_path, _images(tmp_path / "images"))
    with pytest.raises(InputError, match=r"no test split.*data\.test"):
        evaluate(run)
    other = _images(tmp_path / "other", seed=1)
    result = evaluate(run, overrides=[f"data.test={other}", "k=1"])
    assert result.data["test_images"] == 24
    assert result.data["changed"] == [f"data.test: None -> {other}"]
    assert result.path.name.startswith("knn-k1-images_")
    assert result.notes == []


def test_images_that_are_on_both_sides_are_told(tmp_path: Path) -> None:
    images = _images(tmp_path / "images")
    result = evaluate(_folder_run(tmp_path, images, test=str(images)), overrides=["k=1"])
    assert result.metrics["top1"] == 100.0
    assert "24 of 24 images to classify are among the labelled ones too" in result.notes


def test_without_labels_it_says_what_to_do(tmp_path: Path) -> None:
    flat = _images(tmp_path / "images", classes=0, each=24)
    with pytest.raises(InputError, match=r"needs labels.*data\.label_column"):
        evaluate(_folder_run(tmp_path, flat, test=str(flat)))


def test_one_class_is_refused(tmp_path: Path) -> None:
    images = _images(tmp_path / "images", classes=1, each=24)
    with pytest.raises(InputError, match="all images have one label"):
        evaluate(_folder_run(tmp_path, images, test=str(images)))


def test_a_class_without_labelled_images_is_told(tmp_path: Path) -> None:
    run = _folder_run(
        tmp_path, _images(tmp_path / "images"), test=str(_images(tmp_path / "three", classes=3))
    )
    result = evaluate(run, "linear-cached", ["epochs=1"])
    assert result.data["classes"] == 3
    assert any("12 of 36 images to classify are of classes without" in note for note in result.notes)


def test_raw_pixels_that_would_not_fit_are_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_MOST_PIXELS", 1000)
    result = evaluate(run, baselines=True)
    assert set(result.baselines) == {"untrained"}
    assert any("raw pixels are left out" in note for note in result.notes)


def test_a_diverged_encoder_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "extract", lambda *_, **__: torch.full((4, 2), math.nan))
    with pytest.raises(RayslError, match="diverged"):
        evaluate(run, overrides=["features.cache=false"])


def test_the_plan_is_told_before_anything_is_computed(run: Path) -> None:
    plan = prepare_evaluation(run, "linear-cached", ["epochs=3"], baselines=True).facts()
    assert json.loads(json.dumps(plan)) == plan
    assert plan["judged"] == ["trained", "untrained", "raw_pixels"]
    assert plan["result"].endswith("linear-cached-epochs3-baselines-test-epoch_0002.json")
    assert any("epochs 3" in line for line in plan["lines"])
    assert not (run / "evaluation").exists()


def test_an_alien_file_among_the_results_is_named(run: Path) -> None:
    folder = run / "evaluation"
    folder.mkdir()
    (folder / "mine.json").write_text("[]")
    with pytest.raises(InputError, match=r"mine\.json: not an evaluation result"):
        read_results(folder)
