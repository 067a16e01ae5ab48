from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from raysl.models.heads import HeadConfig, build_head


def _describe(head: nn.Sequential) -> list[str]:
    words = []
    for layer in head:
        if isinstance(layer, nn.Linear):
            bias = "+b" if layer.bias is not None else ""
            words.append(f"{layer.in_features}->{layer.out_features}{bias}")
        elif isinstance(layer, nn.BatchNorm1d):
            words.append("bn+affine" if layer.affine else "bn")
        else:
            words.append(type(layer).__name__.lower())
    return words


def test_projector_of_mec() -> None:
    head = build_head(HeadConfig(layers=3, out=5, last_bn="plain"), 8)
    assert _describe(head) == ["8->8", "bn+affine", "relu", "8->8", "bn+affine", "relu", "8->5", "bn"]


def test_predictor_of_mec_returns_to_its_input_size() -> None:
    config = HeadConfig(layers=2, width=3)
    assert _describe(build_head(config, 8)) == ["8->3", "bn+affine", "relu", "3->8+b"]
    assert config.out_features(8) == 8


def test_projector_of_simclr() -> None:
    config = HeadConfig(layers=2, width=16, out=4, bias=True, last_bn="affine")
    assert _describe(build_head(config, 8)) == ["8->16+b", "bn+affine", "relu", "16->4+b", "bn+affine"]
    assert config.out_features(8) == 4


def test_without_batch_normalisation_every_layer_has_a_bias() -> None:
    assert _describe(build_head(HeadConfig(bn=False, out=2), 4)) == ["4->4+b", "relu", "4->2+b"]
    assert _describe(build_head(HeadConfig(layers=1, out=2, bias=False), 4)) == ["4->2"]


def test_outputs_have_the_promised_size() -> None:
    config = HeadConfig(layers=2, width=6, out=5)
    assert build_head(config, 3)(torch.rand(4, 3)).shape == (4, config.out_features(3))


@pytest.mark.parametrize("fields", [{"layers": 0}, {"width": 0}, {"out": -1}, {"last_bn": "maybe"}])
def test_bad_specifications_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HeadConfig.model_validate(fields)


def test_hidden_layers_may_differ() -> None:
    head = build_head(HeadConfig(layers=3, width=(6, 4), out=2, bn=False), 8)
    assert _describe(head) == ["8->6+b", "relu", "6->4+b", "relu", "4->2+b"]
    assert HeadConfig(layers=3, width=5).hidden(8) == (5, 5)
    with pytest.raises(ValidationError, match="width has 1 numbers for the 2 hidden layers of layers=3"):
        HeadConfig(layers=3, width=(6,))
