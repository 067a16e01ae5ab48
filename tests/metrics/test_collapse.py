from __future__ import annotations

import math

import pytest
import torch

from raysl.metrics.collapse import collapse_cause
from raysl.metrics.spectra import embedding_std, rankme
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig, build_head


@pytest.mark.parametrize(
    ("loss", "std", "rank", "name", "word"),
    [
        (math.nan, 1.0, 30.0, "nan", "loss"),
        (1.0, math.nan, 30.0, "nan", "embedding std"),
        (1.0, 1.0, math.nan, "nan", "effective rank"),
        (math.inf, 1.0, 30.0, "inf", "loss"),
        (-math.inf, 1.0, 30.0, "inf", "loss"),
        (math.inf, math.nan, 30.0, "nan", "embedding std"),
        (1.0, 1e-3, 30.0, "collapse", "complete"),
        (1.0, 0.0, 0.0, "collapse", "complete"),
        (1.0, 0.5, 1.01, "collapse", "dimensional"),
    ],
)
def test_causes(loss: float, std: float, rank: float, name: str, word: str) -> None:
    cause = collapse_cause(loss, std, rank)
    assert cause is not None
    assert cause.name == name
    assert word in cause.detail


def test_healthy_values_and_values_not_given_raise_no_alarm() -> None:
    assert collapse_cause(1.0, 0.9, 30.0) is None
    assert collapse_cause() is None
    assert collapse_cause(std=0.9, rank=30.0) is None


def test_thresholds_are_arguments() -> None:
    assert collapse_cause(1.0, 0.9, 30.0, min_std=0.95) is not None
    assert collapse_cause(1.0, 0.9, 30.0, min_rank=31.0) is not None
    assert collapse_cause(1.0, 1e-3, 1.0, min_std=0.0, min_rank=0.0) is None


def test_before_the_first_update_constant_embeddings_are_no_collapse() -> None:
    assert collapse_cause(1.0, 0.0, 0.0, trained=False) is None
    cause = collapse_cause(math.nan, 0.0, 0.0, trained=False)
    assert cause is not None
    assert cause.name == "nan"


@pytest.mark.parametrize("name", ["small_cnn", "resnet10_narrow", "resnet18"])
@pytest.mark.parametrize("bn", [True, False], ids=["bn", "no-bn"])
@pytest.mark.parametrize("contrast", [0.05, 1.0])
def test_untrained_networks_raise_no_alarm(name: str, bn: bool, contrast: float) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name=name), 3)
    projector = build_head(HeadConfig(layers=3, out=64, bn=bn), backbone.features)
    predictor = build_head(HeadConfig(layers=2, width=32, bn=bn), 64)
    with torch.no_grad():
        embeddings = predictor(projector(backbone(0.5 + contrast * torch.rand(64, 3, 32, 32))))
    assert collapse_cause(1.0, embedding_std(embeddings), rankme(embeddings)) is None


def test_a_constant_embedding_is_found_even_after_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    constant = torch.randn(1, 64, generator=generator)
    rounded = (constant * (1 + 1e-3 * torch.randn(256, 64, generator=generator))).bfloat16()
    assert (rounded != rounded[0]).any(dim=1).sum() > 100
    cause = collapse_cause(1.0, embedding_std(rounded), rankme(rounded))
    assert cause is not None
    assert cause.name == "collapse"
