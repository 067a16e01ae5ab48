from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from raysl.data.decoded import normalization
from raysl.data.sources import load_training
from raysl.data.views import ViewPipeline
from raysl.evaluation.evaluate import evaluate
from raysl.evaluation.features import extract, load_backbone, untrained_backbone, weights_digest
from raysl.models.backbones import Backbone
from raysl.train import checkpoint
from raysl.train.config import RunConfig
from raysl.train.rundir import RunDirectory
from raysl.train.session import Session, TrainData
from tests.evaluation.conftest import train


@pytest.fixture(scope="module")
def config(trained: Path) -> RunConfig:
    return RunDirectory(trained).config()


@pytest.fixture(scope="module")
def data(config: RunConfig) -> TrainData:
    return TrainData(*load_training(config.data))


@pytest.fixture(scope="module")
def views(config: RunConfig, data: TrainData) -> ViewPipeline:
    return ViewPipeline(config.views, normalization(config.data, data.train), data.train.size)


def test_load_backbone_gives_the_students_weights(trained: Path) -> None:
    backbone = load_backbone(trained)
    stored = load_file(trained / "checkpoints" / "epoch_0002" / "model.safetensors")
    assert type(backbone) is Backbone
    assert not backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, stored[f"backbone.{name}"])
    assert backbone(torch.zeros(3, 1, 8, 8)).shape == (3, backbone.features)


def test_load_backbone_takes_the_student_where_there_is_a_teacher(tmp_path: Path) -> None:
    method = {"name": "matrix_ssl", "projector": {"layers": 2, "width": 32, "out": 16, "last_bn": "plain"}}
    run = RunDirectory(train(tmp_path / "run", {"method": method}, {"train": {"epochs": 1}}))
    config = run.config()
    session = Session(config, TrainData(*load_training(config.data)), torch.device("cpu"))
    last = checkpoint.latest(run.checkpoints)
    assert last is not None
    session.restore(checkpoint.load(last))
    backbone = load_backbone(run.path)
    assert weights_digest(backbone) == weights_digest(session.method.backbone)
    student = session.method.backbone
    teacher = [m for m in session.method.modules() if isinstance(m, Backbone) and m is not student]
    assert teacher
    assert weights_digest(backbone) != weights_digest(teacher[0])


def test_load_backbone_is_in_float32_after_training_in_float64(tmp_path: Path) -> None:
    run = train(tmp_path / "run", {"train": {"epochs": 1, "precision": "float64"}})
    assert {parameter.dtype for parameter in load_backbone(run).parameters()} == {torch.float32}


def test_load_backbone_takes_an_older_checkpoint(trained: Path) -> None:
    first = load_backbone(trained, "epoch_0001")
    assert weights_digest(first) != weights_digest(load_backbone(trained))
    assert weights_digest(first) == weights_digest(load_backbone(trained / "checkpoints" / "epoch_0001"))


def test_untrained_backbone_is_what_the_run_began_with(config: RunConfig, data: TrainData) -> None:
    before = torch.get_rng_state()
    untrained = untrained_backbone(config)
    session = Session(config, data, torch.device("cpu"))
    assert weights_digest(untrained) == weights_digest(session.method.backbone)
    assert not untrained.training
    assert torch.equal(torch.get_rng_state(), before)


def test_extract_does_not_depend_on_the_batch_size(
    trained: Path, data: TrainData, views: ViewPipeline
) -> None:
    backbone = load_backbone(trained)
    whole = extract(backbone, data.selection, views)
    assert whole.shape == (len(data.selection), backbone.features)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(extract(backbone, data.selection, views, batch_size=7), whole)
    shown = views.plain(torch.from_numpy(data.selection.images[5:6].copy()))
    with torch.no_grad():
        torch.testing.assert_close(backbone(shown), whole[5:6])


def test_extract_leaves_the_module_as_it_was(trained: Path, data: TrainData, views: ViewPipeline) -> None:
    backbone = load_backbone(trained).train()
    before = weights_digest(backbone)
    features = extract(backbone, data.selection, views)
    assert backbone.training
    assert weights_digest(backbone) == before
    assert torch.equal(features, extract(load_backbone(trained), data.selection, views))


def test_extract_of_flatten_gives_normalised_pixels(data: TrainData, views: ViewPipeline) -> None:
    pixels = extract(nn.Flatten(), data.selection, views).numpy()
    mean, std = views.normalization.mean[0], views.normalization.std[0]
    np.testing.assert_allclose(
        pixels, (data.selection.images.reshape(-1, 64) / 255 - mean) / std, rtol=1e-5, atol=1e-5
    )


def test_features_judge_as_training_did(run: Path) -> None:
    """The last epoch's online k-NN (k 5, all training images) is the protocol on the selection split."""
    recorded = RunDirectory(run).metrics()[-1]["metrics"]["eval/knn_top1"]
    assert evaluate(run, "knn", split="selection").metrics["top1"] == pytest.approx(recorded, abs=1e-9)
