from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from raysl.config import build
from raysl.errors import InputError
from raysl.models.backbones import Backbone, BackboneConfig, backbone_names, build_backbone


def _build(channels: int = 3, **fields: Any) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(**fields), channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", backbone_names())
def test_features_are_pooled_and_trainable(name: str, channels: int) -> None:
    backbone = _build(channels, name=name)
    images = torch.rand(3, channels, 32, 32)
    features = backbone(images)
    assert features.shape == (3, backbone.features)
    assert backbone.image_channels == channels
    features.sin().sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048), ("small_cnn", 256), ("resnet10_narrow", 128)],
)
def test_feature_sizes(name: str, features: int) -> None:
    assert _build(name=name).features == features


@pytest.mark.parametrize(
    ("stem", "kernel", "stride", "side"),
    [("auto", 7, 2, 8), ("imagenet", 7, 2, 8), ("cifar", 3, 1, 32), ("cifar_maxpool", 3, 1, 16)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_stems(stem: str, kernel: int, stride: int, side: int, channels: int) -> None:
    network: Any = _build(channels, name="resnet18", stem=stem).network
    assert network.conv1.kernel_size == (kernel, kernel)
    assert network.conv1.stride == (stride, stride)
    stages_input = network.maxpool(network.conv1(torch.rand(2, channels, 32, 32)))
    assert stages_input.shape == (2, 64, side, side)


def test_resnet_weights_carry_torchvisions_names() -> None:
    expected = torchvision.models.resnet18(weights=None).state_dict()
    ours = _build(name="resnet18").network.state_dict()
    assert set(expected) - set(ours) == {"fc.weight", "fc.bias"}
    assert {name: x.shape for name, x in ours.items()} == {name: expected[name].shape for name in ours}


def test_same_seed_same_weights() -> None:
    one, two = _build(name="small_cnn").state_dict(), _build(name="small_cnn").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet10_narrow"])
def test_zero_init_residual_makes_blocks_their_shortcuts(name: str) -> None:
    def zeroed(value: bool) -> int:
        norms = (m for m in _build(name=name, zero_init_residual=value).modules())
        return sum(isinstance(m, nn.BatchNorm2d) and not m.weight.any() for m in norms)

    assert zeroed(False) == 0
    assert zeroed(True) == {"resnet18": 8, "resnet50": 16, "resnet10_narrow": 4}[name]


@pytest.mark.parametrize(("name", "factor"), [("small_cnn", 16), ("resnet10_narrow", 8)])
def test_width_scales_our_small_networks(name: str, factor: int) -> None:
    backbone = _build(1, name=name, width=6)
    assert backbone.features == 6 * factor
    assert backbone(torch.rand(2, 1, 8, 8)).shape == (2, 6 * factor)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no such backbone; did you mean 'resnet18'"):
        build(BackboneConfig, {"name": "resnet81"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet18", "width": 8}, r"backbone\.width: resnet18 .*set backbone\.width=null"),
        ({"name": "small_cnn", "stem": "cifar"}, r"backbone\.stem: small_cnn .*set backbone\.stem=auto"),
        ({"name": "small_cnn", "zero_init_residual": True}, r"set backbone\.zero_init_residual=false"),
    ],
)
def test_options_a_network_lacks_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(**fields)


def test_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'raysl\[timm\]'"):
        _build(name="timm/vit_small_patch16_224")


def test_timm_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(nn.Conv2d):
        num_features = 3
        head_hidden_size = 7

    def create_model(name: str, *, pretrained: bool, num_classes: int, in_chans: int) -> nn.Module:
        assert (name, pretrained, num_classes) == ("tiny_vit", False, 0)
        return Network(in_chans, 7, 1)

    names = ["tiny_vit", "convnext"]
    fake = SimpleNamespace(is_model=names.__contains__, list_models=lambda: names, create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", fake)
    assert _build(1, name="timm/tiny_vit").features == 7
    with pytest.raises(InputError, match=r"no model 'tiny_vut'.*'timm/tiny_vit'"):
        _build(name="timm/tiny_vut")
    with pytest.raises(InputError, match=r"backbone\.stem: timm/tiny_vit has no such option"):
        _build(name="timm/tiny_vit", stem="cifar")
