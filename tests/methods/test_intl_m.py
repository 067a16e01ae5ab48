"""What is INTL-M's own: a key network that sees the first view only, and moves before the forward pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from raysl.methods.base import Plan, Scaling, Step
from raysl.methods.intl_m import Config, Method
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig

PLAN = Plan(batch_size=32, steps_per_epoch=5, horizon_steps=50)


def build(**fields: object) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    head = HeadConfig(layers=2, width=16, out=64)
    return Method(Config.model_validate({"projector": head, **fields}), backbone, PLAN).double()


def views(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(32, 1, size, size, generator=generator, dtype=torch.float64) for size in sizes]


def seen(module: nn.Module) -> list[tuple[int, ...]]:
    """Return the list that the shapes of the module's inputs will be put into."""
    shapes: list[tuple[int, ...]] = []
    module.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    return shapes


def test_only_the_key_network_sees_the_first_view() -> None:
    method = build()
    key, query = seen(method.teacher.network), seen(method.backbone)
    method(views(12, 10, 8, 6), Step(1, PLAN, 0))
    assert [shape[2] for shape in key] == [12]
    assert [shape[2] for shape in query] == [10, 8, 6]


def test_the_key_network_moves_before_the_forward_pass_and_not_after() -> None:
    method = build(momentum=0.9)
    student = [*method.backbone.parameters(), *method.projector.parameters()]
    key = list(method.teacher.network.parameters())
    with torch.no_grad():
        for parameter in student:
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in key]
    assert method.after_step(Step(0, PLAN, 0)) == {}
    assert all(torch.equal(old, k) for old, k in zip(before, key, strict=True))
    assert method.before_step(Step(0, PLAN, 0)) == {"momentum": pytest.approx(0.9)}
    for old, k, s in zip(before, key, student, strict=True):
        torch.testing.assert_close(k, 0.9 * old + 0.1 * s)
    assert not any(parameter.requires_grad for parameter in key)


def test_momentum_rises_along_half_a_cosine_over_all_steps() -> None:
    method = build(momentum=0.996)
    for index in (0, 7, 25, 49):
        expected = 1 - 0.004 * (1 + math.cos(math.pi * index / 50)) / 2
        assert method.before_step(Step(index, PLAN, 0))["momentum"] == pytest.approx(expected, rel=1e-12)


def test_the_total_is_made_of_its_parts() -> None:
    report = build(beta=0.3)(views(8, 8, 6), Step(1, PLAN, 0))
    expected = report.parts["mse"] + 0.3 * report.parts["trace_loss"]
    torch.testing.assert_close(report.loss, expected)
    assert "condition" not in report.parts
    assert "condition" in build()(views(8, 8), Step(0, PLAN, 0)).parts


def test_scaling_rescales_beta_and_momentum() -> None:
    momentum, beta = Config().rescale(Scaling((256, 1024), (4000, 1000), (224, 224)))
    assert (momentum.key, momentum.new) == ("method.momentum", pytest.approx(0.996**4))
    assert (beta.key, beta.new, beta.derived) == ("method.beta", pytest.approx(0.07), True)


def test_resolved_numbers_are_told() -> None:
    assert build(momentum="10%").describe() == [
        "trace loss weight beta 0.02 (0.01 (log2 32 - 3), from the global batch)",
        "key network momentum 0.8, rising to 1 over the horizon",
    ]
