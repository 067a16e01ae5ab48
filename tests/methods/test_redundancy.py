"""What is Barlow Twins' and VICReg's own: standardisation, and what `reference_exact` switches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raysl.methods import barlow_twins, vicreg
from raysl.methods.base import LossReport, Plan, Step
from raysl.models.backbones import Backbone, BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig

PLAN = Plan(batch_size=16, steps_per_epoch=5, horizon_steps=50)


def backbone() -> Backbone:
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)


def views() -> list[Tensor]:
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [images, images.flip(3)]


def barlow(last_bn: str = "none", **fields: object) -> LossReport:
    # With a bias in neither case, the two projectors draw the same weights.
    projector = HeadConfig.model_validate({"width": 16, "out": 8, "last_bn": last_bn, "bias": False})
    config = barlow_twins.Config.model_validate({"projector": projector, **fields})
    report: LossReport = barlow_twins.Method(config, backbone(), PLAN).double()(views(), Step(0, PLAN, 0))
    return report


def of_vicreg(**fields: object) -> LossReport:
    config = vicreg.Config.model_validate({"projector": HeadConfig(width=16, out=8), **fields})
    report: LossReport = vicreg.Method(config, backbone(), PLAN).double()(views(), Step(0, PLAN, 0))
    return report


@pytest.mark.parametrize("last_bn", ["plain", "affine"])
def test_a_projector_that_ends_in_batch_normalisation_is_not_standardised_twice(last_bn: str) -> None:
    # A fresh affine normalisation has scale 1 and offset 0.
    torch.testing.assert_close(barlow(last_bn).loss, barlow().loss, rtol=1e-12, atol=0)
    # Twice would differ, by the 1e-5 that is added to the variance.
    assert abs(float((barlow(last_bn).embeddings.std(0, correction=0) - 1).mean())) > 1e-9


def test_the_parts_of_barlow_twins_make_its_total() -> None:
    report = barlow(lam=0.3)
    total = report.parts["diagonal"] + 0.3 * report.parts["off_diagonal"]
    torch.testing.assert_close(report.loss, total, rtol=1e-12, atol=0)


def test_barlow_twins_reference_divides_by_the_embedding_size() -> None:
    ours, theirs = barlow(), barlow(reference_exact=True)
    # c is (16 rows / 8 dimensions) times as large.
    torch.testing.assert_close(theirs.parts["off_diagonal"], 4 * ours.parts["off_diagonal"])


def test_the_parts_of_vicreg_make_its_total() -> None:
    report = of_vicreg(invariance=2.0, variance=3.0, covariance=0.5)
    weights = {"invariance": 2.0, "variance": 3.0, "covariance": 0.5}
    assert set(report.parts) == set(weights)
    total = torch.stack([weight * report.parts[name] for name, weight in weights.items()]).sum()
    torch.testing.assert_close(report.loss, total, rtol=1e-12, atol=0)


def test_vicreg_reference_does_not_halve_the_variance_term() -> None:
    ours, theirs = of_vicreg(), of_vicreg(reference_exact=True)
    assert float(ours.parts["variance"].detach()) > 0
    torch.testing.assert_close(theirs.parts["variance"], 2 * ours.parts["variance"])
    torch.testing.assert_close(theirs.loss - ours.loss, 25 * ours.parts["variance"])
