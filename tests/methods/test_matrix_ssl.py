"""What is Matrix-SSL's own: a teacher that follows, and two logarithms."""

from __future__ import annotations

import pytest
import torch

from raysl.methods.base import Plan, Step
from raysl.methods.matrix_ssl import Config, Method
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig

PLAN = Plan(batch_size=32, steps_per_epoch=5, horizon_steps=50)
HEADS = {
    "projector": HeadConfig(layers=2, width=16, out=8, last_bn="plain"),
    "predictor": HeadConfig(width=16),
}


def build(**fields: object) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    return Method(Config.model_validate({**HEADS, **fields}), backbone, PLAN).double()


def pair() -> list[torch.Tensor]:
    images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [images, images.flip(3)]


def test_the_taylor_series_approaches_the_exact_logarithm() -> None:
    exact = float(build(logarithm="exact")(pair(), Step(1, PLAN, 0)).loss.detach())
    errors = [
        abs(float(build(order=k)(pair(), Step(1, PLAN, 0)).loss.detach()) - exact) for k in (1, 4, 16, 32)
    ]
    assert errors[0] > 1e-3
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4 * abs(exact)


def test_the_total_is_made_of_its_parts() -> None:
    report = build(gamma=0.3)(pair(), Step(1, PLAN, 0))
    assert float(report.loss.detach()) == pytest.approx(
        float((report.parts["correlation"] + 0.3 * report.parts["alignment"]).detach()), rel=1e-12
    )


def test_the_radius_is_looked_at_once_an_epoch_and_only_for_the_series() -> None:
    told = ["taylor_radius" in build()(pair(), Step(index, PLAN, 0)).parts for index in range(6)]
    assert told == [True, False, False, False, False, True]
    assert "taylor_radius" not in build(logarithm="exact")(pair(), Step(0, PLAN, 0)).parts


def test_the_teacher_starts_as_the_student_moves_by_ema_and_takes_no_gradient() -> None:
    method = build(momentum=0.9)
    student = [*method.backbone.parameters(), *method.projector.parameters()]
    teacher = list(method.teacher.network.parameters())
    assert all(torch.equal(t, s) for t, s in zip(teacher, student, strict=True))
    with torch.no_grad():
        for parameter in student:
            parameter.add_(1.0)
    before = [t.clone() for t in teacher]
    assert method.after_step(Step(0, PLAN, 0)) == {"momentum": 0.9}
    for old, t, s in zip(before, teacher, student, strict=True):
        torch.testing.assert_close(t, 0.9 * old + 0.1 * s)
    assert method.after_step(Step(50, PLAN, 0)) == {"momentum": 1.0}
    assert not any(t.requires_grad for t in teacher)


def test_the_teacher_has_statistics_of_its_own_which_move() -> None:
    method = build()
    names = [name for name, _ in method.teacher.named_buffers() if name.endswith("running_mean")]
    assert names
    before = {name: method.teacher.get_buffer(name).clone() for name in names}
    method(pair(), Step(0, PLAN, 0))
    assert all(not torch.equal(method.teacher.get_buffer(name), before[name]) for name in names)


def test_the_resolved_momentum_is_told() -> None:
    assert build(momentum="10%").describe() == ["teacher momentum 0.8, rising to 1 over the horizon"]


def test_the_defaults_are_the_run_that_its_authors_document() -> None:
    config = Config()
    assert (config.lam, config.mu, config.gamma, config.order, config.momentum) == (1.0, 1.0, 1.0, 4, 0.996)
