"""What is BYOL's and SimSiam's own: the target's momentum and statistics, the predictor's learning rate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raysl.losses.asymmetric import byol_loss, simsiam_loss
from raysl.methods import byol, simsiam
from raysl.methods.base import Plan, Step
from raysl.models.backbones import Backbone, BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig

PLAN = Plan(batch_size=16, steps_per_epoch=5, horizon_steps=50)
HEADS = {"projector": HeadConfig(layers=2, width=16, out=8), "predictor": HeadConfig(width=16)}


def backbone() -> Backbone:
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)


def make_byol(**fields: object) -> byol.Method:
    return byol.Method(byol.Config.model_validate({**HEADS, **fields}), backbone(), PLAN).double()


def make_simsiam(**fields: object) -> simsiam.Method:
    return simsiam.Method(simsiam.Config.model_validate({**HEADS, **fields}), backbone(), PLAN).double()


def views(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(count, 16, 1, 8, 8, generator=generator, dtype=torch.float64))


def test_the_target_momentum_changes_once_an_epoch() -> None:
    momenta = [make_byol().after_step(Step(index, PLAN, 0))["momentum"] for index in (0, 4, 5, 9, 25, 60)]
    assert momenta[:2] == [0.99, 0.99]
    assert momenta[2] == momenta[3] == pytest.approx(0.990244717, abs=1e-9)
    assert momenta[4] == pytest.approx(0.995)
    assert momenta[5] == 1.0


def test_the_target_starts_as_a_copy_with_statistics_of_its_own() -> None:
    method = make_byol()
    online = nn.Sequential(method.backbone, method.projector).state_dict()
    target = method.teacher.network.state_dict()
    assert all(torch.equal(target[name], online[name]) for name in online)
    method(views(2), Step(0, PLAN, 0))
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(0.1)
    statistics = {name: b.clone() for name, b in method.teacher.named_buffers() if "running" in name}
    assert statistics
    method.after_step(Step(0, PLAN, 0))
    assert all(torch.equal(method.teacher.get_buffer(name), value) for name, value in statistics.items())
    method(views(2), Step(1, PLAN, 0))
    assert all(not torch.equal(method.teacher.get_buffer(name), v) for name, v in statistics.items())


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_byol_predicts_every_other_view(count: int, normalize: bool) -> None:
    method, given = make_byol(normalize=normalize), views(count)
    predictions = [method.predictor(method.projector(method.backbone(view))) for view in given]
    targets = [method.teacher(view) for view in given]
    expected = byol_loss(predictions, targets, normalize=normalize)
    loss = make_byol(normalize=normalize)(given, Step(0, PLAN, 0)).loss
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_the_resolved_momentum_is_told() -> None:
    assert make_byol(momentum="10%").describe() == [
        "target momentum 0.8, rising to 1 over the horizon, once an epoch"
    ]


@pytest.mark.parametrize("count", [2, 3])
def test_simsiam_predicts_every_other_view(count: int) -> None:
    method, given = make_simsiam(), views(count)
    embeddings = [method.projector(method.backbone(view)) for view in given]
    expected = simsiam_loss([method.predictor(z) for z in embeddings], embeddings)
    loss = make_simsiam()(given, Step(0, PLAN, 0)).loss
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_the_predictor_alone_keeps_its_learning_rate_unless_told_otherwise() -> None:
    method = make_simsiam()
    assert method.fixed_lr_modules() == [method.predictor]
    assert make_simsiam(predictor_lr="scheduled").fixed_lr_modules() == []


def test_the_projector_ends_in_a_normalisation_without_scale() -> None:
    last = simsiam.Method(simsiam.Config(), backbone(), PLAN).projector[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert not last.affine
