"""What every method has to keep to; a new file in raysl/methods is found and tested by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from raysl import methods
from raysl.errors import InputError
from raysl.methods.base import LossReport, Method, Pixels, Plan, Step
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig
from tests.methods.settings import SETTINGS

NAMES = methods.method_names()
PLAN = Plan(12, steps_per_epoch=5, horizon_steps=50, pixels=Pixels((0.3,), (0.4,)), image_size=(8, 8))
ROWS = 12


def build(name: str) -> Method:
    torch.manual_seed(0)
    config_class = methods.config_class(name)
    values: dict[str, object] = {"name": name, **SETTINGS.get(name, {})}
    for head, out in (("projector", 8), ("predictor", None)):
        if head in config_class.model_fields and head not in values:
            values[head] = HeadConfig(layers=2, width=24, out=out)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    return methods.method_class(name)(config_class.model_validate(values), backbone, PLAN).double()


def views(name: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(ROWS, 1, 8, 8, generator=generator, dtype=torch.float64)
    config_class = methods.config_class(name)
    count = config_class.plain_views + config_class.views_required[0]
    noise = torch.randn(count, *images.shape, generator=generator, dtype=torch.float64)
    return list(images + 0.1 * noise)


def forward(method: Method, given: Sequence[Tensor], index: int = 0) -> LossReport:
    report: LossReport = method(given, Step(index, PLAN, seed=3))
    return report


def test_methods_are_found_by_their_files() -> None:
    assert {"matrix_ssl", "simclr"} <= set(NAMES)
    assert "base" not in NAMES
    assert sorted(NAMES) == NAMES


def test_an_unknown_method_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no method 'simlcr'; did you mean 'simclr'"):
        methods.config_class("simlcr")


@pytest.mark.parametrize("name", NAMES)
def test_the_config_carries_the_name_of_its_file(name: str) -> None:
    assert methods.config_class(name).model_fields["name"].default == name


@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_a_finite_scalar_with_plain_parts_and_detached_embeddings(name: str) -> None:
    method = build(name)
    report = forward(method, views(name))
    assert report.loss.shape == ()
    assert report.loss.requires_grad
    assert math.isfinite(float(report.loss.detach()))
    assert all(part.shape == () for part in report.parts.values())
    assert "loss" not in report.parts
    assert report.embeddings.shape[0] == ROWS
    assert report.embeddings.ndim == 2
    assert not report.embeddings.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_parameter_gets_a_gradient_and_no_other_does(name: str) -> None:
    method = build(name)
    report = forward(method, views(name))
    report.loss.backward()  # type: ignore[no-untyped-call]
    for parameter_name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    assert any(p.requires_grad for p in method.backbone.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_in_a_batch_does_not_matter(name: str) -> None:
    method, order = build(name), torch.randperm(ROWS, generator=torch.Generator().manual_seed(2))
    straight, mixed = (
        float(forward(method, given).loss.detach())
        for given in (views(name), [view[order] for view in views(name)])
    )
    assert mixed == pytest.approx(straight, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_pairing_of_views_does_matter(name: str) -> None:
    method = build(name)
    first, *others = views(name)
    paired, mixed = (
        float(forward(method, given).loss.detach())
        for given in ([first, *others], [first.roll(1, 0), *others])
    )
    assert abs(mixed - paired) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_state_put_back_gives_the_same_loss(name: str) -> None:
    method = build(name)
    given = views(name)
    for index in range(3):
        forward(method, given, index)
        method.after_step(Step(index, PLAN, seed=3))
    torch.manual_seed(9)
    other = build(name)
    other.load_state_dict(method.state_dict())
    assert torch.equal(forward(method, given).loss, forward(other, given).loss)


@pytest.mark.parametrize("name", NAMES)
def test_after_step_returns_numbers(name: str) -> None:
    scalars = build(name).after_step(Step(0, PLAN, seed=3))
    assert all(isinstance(value, float) for value in scalars.values())
