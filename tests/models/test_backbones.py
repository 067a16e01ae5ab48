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
from raysl.models.backbones import (
    Backbone,
    BackboneConfig,
    backbone_names,
    build_backbone,
    check_sizes,
)


def _build(channels: int = 3, **fields: Any) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(**fields), channels)


SMALLEST = ["resnet18", "small_cnn", "resnet10_narrow", "vit_s_16", "convnext_tiny"]
"""Of each family."""


@pytest.mark.parametrize("name", backbone_names())
def test_features_are_pooled(name: str) -> None:
    with torch.device("meta"):
        backbone = _build(1, name=name)
        features = backbone(torch.rand(3, 1, 32, 32))
    assert features.shape == (3, backbone.features)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SMALLEST)
def test_every_weight_is_trained(name: str, channels: int) -> None:
    backbone = _build(channels, name=name)
    assert backbone.image_channels == channels
    features = backbone(torch.rand(3, channels, 32, 32))
    features.sin().sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet18", 512),
        ("resnet50", 2048),
        ("wide_resnet50_2", 2048),
        ("small_cnn", 256),
        ("resnet10_narrow", 128),
        ("vit_s_16", 384),
        ("vit_b_16", 768),
        ("convnext_tiny", 768),
        ("convnext_base", 1024),
    ],
)
def test_feature_sizes(name: str, features: int) -> None:
    with torch.device("meta"):
        assert _build(name=name).features == features


@pytest.mark.parametrize("name", ["vit_b_16", "convnext_tiny"])
def test_weights_carry_torchvisions_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        expected = getattr(torchvision.models, name)(weights=None).state_dict()
        ours = _build(name=name).network.state_dict()
    assert {key.split(".")[0] for key in set(expected) - set(ours)} <= {"heads", "classifier"}
    assert {key: x.shape for key, x in ours.items()} == {key: expected[key].shape for key in ours}


def test_a_transformer_gives_torchvisions_features_at_its_own_size() -> None:
    backbone = _build(name="vit_s_16", image_size=32, patch=8)
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(32, 8, 12, 6, 384, 1536)
    theirs.heads = nn.Identity()
    theirs.load_state_dict(backbone.network.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(backbone(images), theirs(images))


def test_position_embeddings_are_interpolated_for_other_sizes() -> None:
    network: Any = _build(1, name="vit_s_16", image_size=16, patch=4).network
    grid = torch.linspace(0, 1, 4)[:, None].expand(4, 4).reshape(1, 16, 1)
    network.encoder.pos_embedding.data[:, 1:] = grid
    larger = network._positions(8, 2)[0, 1:].view(8, 2, -1)
    assert torch.equal(larger[:, 0], larger[:, 1])
    assert bool((larger[1:, 0] > larger[:-1, 0]).all())
    assert torch.equal(network._positions(8, 2)[:, 0], network.encoder.pos_embedding[:, 0])
    assert network(torch.rand(2, 1, 32, 8)).shape == (2, 384)
    with pytest.raises(InputError, match=r"backbone\.patch = 4: views of 8x10 pixels do not divide"):
        network(torch.rand(2, 1, 10, 8))


def test_no_network_drops_anything_at_random() -> None:
    for name in ("vit_s_16", "convnext_tiny"):
        backbone = _build(name=name, **({"patch": 16, "image_size": 32} if "vit" in name else {}))
        images = torch.rand(2, 3, 32, 32)
        assert torch.equal(backbone(images), backbone(images))


def test_a_hyphen_is_another_spelling() -> None:
    assert BackboneConfig(name="resnet10-narrow") == BackboneConfig(name="resnet10_narrow")


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
        ({"name": "resnet18", "patch": 8}, r"backbone\.patch: resnet18 has no such option"),
        ({"name": "convnext_tiny", "image_size": 32}, r"set backbone\.image_size=null"),
        ({"name": "vit_s_16", "stem": "cifar"}, r"set backbone\.stem=auto"),
        (
            {"name": "vit_s_16", "patch": 15},
            r"224 pixels do not divide into patches of 15; set backbone\.patch",
        ),
        ({"name": "small_cnn", "stem": "cifar"}, r"backbone\.stem: small_cnn .*set backbone\.stem=auto"),
        ({"name": "small_cnn", "zero_init_residual": True}, r"set backbone\.zero_init_residual=false"),
    ],
)
def test_options_a_network_lacks_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(**fields)


def test_sizes_that_a_network_cannot_take_are_refused() -> None:
    backbone = _build(1, name="convnext_tiny")
    check_sizes(backbone, "convnext_tiny", [(32, 32), (48, 32)])
    assert backbone.training
    with pytest.raises(
        InputError, match=r"name = convnext_tiny: cannot take views of 8x9 pixels \(.*\); set"
    ):
        check_sizes(backbone, "convnext_tiny", [(32, 32), (9, 8)])
    with pytest.raises(InputError, match=r"^backbone\.patch = 4: views of 9x8"):
        check_sizes(_build(1, name="vit_s_16", image_size=16, patch=4), "vit_s_16", [(16, 16), (8, 9)])


def test_a_network_that_does_not_pool_is_refused() -> None:
    with pytest.raises(InputError, match=r"features of shape \(1, 4, 2, 2\) for an image, not \(1, 4\)"):
        check_sizes(Backbone(nn.Conv2d(1, 4, 3), 4, 1), "timm/map", [(4, 4)])


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
