from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from raysl.config import load
from raysl.errors import InputError, TrainingStopped
from raysl.losses.w_mse import w_mse_loss
from raysl.methods.base import Plan, Scaling, Step
from raysl.methods.w_mse import Config, Method, random_permutations
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.train.config import RunConfig

PLAN = Plan(12, steps_per_epoch=5, horizon_steps=50)


def _method(**values: Any) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    given = {"w_size": 6, "projector": {"layers": 2, "width": 16, "out": 4}, **values}
    return Method(Config.model_validate(given), backbone, PLAN).double()


def _images(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(count, 12, 1, 8, 8, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("count", [2, 4])
def test_the_loss_is_of_random_sub_batches_of_the_step(count: int) -> None:
    method, images, step = _method(w_iter=2), _images(count), Step(3, PLAN, seed=5)
    report = method(images, step)
    embeddings = method.projector(torch.cat([method.backbone(view) for view in images])).chunk(count)
    expected = w_mse_loss(
        embeddings, permutations=random_permutations(step.generator(), 2, 12), w_size=6, eps=0.0
    )
    torch.testing.assert_close(report.loss, expected.total, rtol=1e-10, atol=0)
    assert torch.equal(method(images, step).loss, report.loss)
    assert abs(method(images, Step(4, PLAN, seed=5)).loss - report.loss) > 1e-6


def test_impossible_sizes_name_their_key() -> None:
    with pytest.raises(InputError, match=r"method\.w_size = 5: does not divide the batch of 12; use 4 or 6"):
        _method(w_size=5)
    with pytest.raises(InputError, match=r"method\.w_size = 4: whitening 4 dimensions without method\.eps"):
        _method(w_size=4)
    for allowed in ({"eps": 0.01}, {"on_singular": "eigh"}):
        assert _method(w_size=4, **allowed)(_images(), Step(0, PLAN, 0)).loss.isfinite()


def test_a_singular_covariance_stops_the_run_with_its_cause() -> None:
    method = _method()
    same = [torch.ones(12, 1, 8, 8, dtype=torch.float64)] * 2
    with pytest.raises(
        TrainingStopped, match=r"w_size = 6 rows of d = 4 .* at epoch 2, step 3; raise"
    ) as stop:
        method(same, Step(7, PLAN, 0))
    assert (stop.value.cause, stop.value.epoch) == ("singular", 1)


@pytest.mark.parametrize(
    ("batch", "new", "label"),
    [(1024, 128, "transferred"), (960, 120, "rescaled"), (514, 257, "unsafe"), (127, 127, "rescaled")],
)
def test_rescaling_keeps_w_size_where_it_divides(batch: int, new: int, label: str) -> None:
    (change,) = Config().rescale(Scaling((256, batch), (100, 100), (32, 32)))
    assert (change.key, change.old, change.new, change.label) == ("method.w_size", 128, new, label)


def test_rescaling_never_goes_down_to_the_dimensions() -> None:
    config = Config(w_size=72)
    (change,) = config.rescale(Scaling((144, 130), (100, 100), (32, 32)))
    assert change.new == 65
    (change,) = config.rescale(Scaling((144, 64), (100, 100), (32, 32)))
    assert (change.new, change.label) == (72, "unsafe")
    (change,) = Config(w_size=72, eps=0.1).rescale(Scaling((144, 64), (100, 100), (32, 32)))
    assert (change.new, change.label) == (64, "rescaled")
    assert config.rescale(Scaling((144, 144), (100, 400), (32, 32))) == []


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "stl10", "tiny_imagenet"])
def test_recipes_hold_what_the_paper_says(data: str) -> None:
    small = data.startswith("cifar")
    for name, count, batch in (("w_mse", 2, 512), ("w_mse_4", 4, 256)):
        run = load(RunConfig, [f"{data}/{name}"], [])
        assert isinstance(run.method, Config)
        assert (run.views.count, run.train.batch_size) == (count, batch)
        assert (run.method.w_size, run.method.projector.out) == ((128, 64) if small else (256, 128))
        assert run.method.w_iter == (4 if count == 2 and not small else 1)
        assert (run.train.epochs, run.optimizer.lr) == (
            2000 if data == "stl10" else 1000,
            3e-3 if small else 2e-3,
        )
