from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from raysl.config import load
from raysl.errors import InputError, TrainingStopped
from raysl.losses.cw_rgp import cw_rgp_loss
from raysl.methods.base import Plan, Scaling, Step
from raysl.methods.cw_rgp import Config, Method
from raysl.methods.w_mse import random_permutations
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.train.config import RunConfig

PLAN = Plan(12, steps_per_epoch=5, horizon_steps=50)


def _method(**values: Any) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    given = {"w_size": 6, "groups": 2, "projector": {"layers": 2, "width": 32, "out": 24}, **values}
    return Method(Config.model_validate(given), backbone, PLAN).double()


def _images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(2, 12, 1, 8, 8, generator=generator, dtype=torch.float64))


def test_the_loss_is_of_random_sub_batches_and_groups_of_the_step() -> None:
    method, images, step = _method(w_iter=2), _images(), Step(3, PLAN, seed=5)
    report = method(images, step)
    embeddings = method.projector(torch.cat([method.backbone(view) for view in images])).chunk(2)
    generator = step.generator()
    rows = random_permutations(generator, 2, 12)
    channels = random_permutations(generator, 2 * 2 * 2, 24).view(2, 2, 2, 24)
    expected = cw_rgp_loss(embeddings, permutations=rows, w_size=6, channel_permutations=channels, groups=2)
    torch.testing.assert_close(report.loss, expected.total, rtol=1e-9, atol=0)
    assert set(report.parts) == {"distance", "condition"}
    fixed = _method(w_iter=2, permute_channels=False)(images, step)
    assert abs(fixed.loss - report.loss) > 1e-6


def test_the_covariance_term_ends_when_told() -> None:
    method, images = _method(cov_weight=0.5, cov_stop=2), _images()
    last, after = (method(images, Step(index, PLAN, seed=5)) for index in (9, 10))
    torch.testing.assert_close(
        last.loss, last.parts["distance"] + 0.5 * last.parts["covariance"], rtol=1e-10, atol=0
    )
    assert "covariance" not in after.parts
    assert torch.equal(after.loss, after.parts["distance"])
    assert "covariance loss for the first 10 steps" in method.describe()
    assert "covariance" in _method(cov_weight=0.5)(images, Step(49, PLAN, seed=5)).parts


@pytest.mark.parametrize("whitening", ["pca", "cholesky", "standardize", "none"])
@pytest.mark.parametrize("axis", [0, 1])
def test_other_whitenings_train(whitening: str, axis: int) -> None:
    method = _method(whitening=whitening, axis=axis, groups=4 if axis == 1 else 2, w_size=12)
    report = method(_images(), Step(0, PLAN, seed=5))
    report.loss.backward()
    weight = method.projector[0].weight
    assert isinstance(weight, Tensor)
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().max() > 0


def test_impossible_groups_name_their_key() -> None:
    with pytest.raises(InputError, match=r"method\.groups = 5: does not divide the projector's 24 outputs"):
        _method(groups=5)
    with pytest.raises(InputError, match=r"method\.groups = 24: leaves one channel .* at most 12"):
        _method(groups=24)
    with pytest.raises(InputError, match=r"method\.w_size = 8: does not divide the batch of 12"):
        _method(w_size=8)


def test_missing_directions_are_told_and_can_stop_the_run() -> None:
    few = {"w_size": 12, "groups": 4}
    assert any("the rest is left out" in line for line in _method(**few).describe())
    assert not any("left out" in line for line in _method().describe())
    assert _method(**few)(_images(), Step(0, PLAN, 0)).loss.isfinite()
    with pytest.raises(TrainingStopped, match="axis 0 inverts a 12 x 12 matrix made from 6 observations"):
        _method(**few, on_singular="error")(_images(), Step(0, PLAN, 0))


def test_rescaling_keeps_the_groups_where_they_still_hold_enough_channels() -> None:
    config = Config(projector={"layers": 2, "out": 512}, w_size=100, groups=4)
    size, groups = config.rescale(Scaling((200, 400), (100, 100), (32, 32)))
    assert (size.new, size.label, groups.new, groups.label) == (100, "transferred", 4, "transferred")
    size, groups = config.rescale(Scaling((200, 128), (100, 100), (32, 32)))
    assert (size.new, size.label, groups.new, groups.label) == (128, "rescaled", 4, "unsafe")
    assert config.rescale(Scaling((200, 200), (100, 400), (32, 32))) == []


def test_imagenet_recipes_hold_what_the_paper_says() -> None:
    for name, epochs, weight, stop in (("cw_rgp", 100, 0.005, 50), ("cw_rgp_200", 200, 0.01, 100)):
        run = load(RunConfig, [f"imagenet/{name}"], [])
        assert isinstance(run.method, Config)
        assert (run.train.epochs, run.method.cov_weight, run.method.cov_stop) == (epochs, weight, stop)
        assert (run.views.count, run.train.batch_size, run.method.w_size, run.method.groups) == (
            4,
            512,
            128,
            2,
        )
        assert run.optimizer.peak_lr(512) == pytest.approx(0.1)
