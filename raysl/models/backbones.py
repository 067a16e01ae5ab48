"""Backbones: the networks that pretraining leaves behind.

`build_backbone` knows torchvision's ResNets, vision transformers and ConvNeXts, two small networks of ours
for the CPU, and any `timm/<name>`. torchvision and timm are imported only when one of their networks is asked
for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from raysl.config.base import Config, nearest
from raysl.errors import InputError
from raysl.models.small import NarrowResNet, SmallCNN

_RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
_TRANSFORMERS = ("vit_s_16", "vit_b_16")
_CONVNEXTS = ("convnext_tiny", "convnext_small", "convnext_base")
_SMALL = ("small_cnn", "resnet10_narrow")
_OTHER_SPELLINGS = {"resnet10-narrow": "resnet10_narrow"}
_TIMM = "timm/"


class BackboneConfig(Config):
    """Which network is pretrained."""

    name: str = "resnet18"
    """A torchvision ResNet (resnet18, 34, 50, 101, 152, wide_resnet50_2, wide_resnet101_2), transformer
    (vit_s_16, vit_b_16) or ConvNeXt (convnext_tiny, convnext_small, convnext_base), small_cnn (images of
    about 8 pixels, CPU), resnet10_narrow (about 32 pixels, CPU), or timm/NAME with the extra `timm`."""
    stem: Literal["auto", "imagenet", "cifar", "cifar_maxpool"] = "auto"
    """First layers of a torchvision ResNet. imagenet: 7x7 convolution with stride 2 and max pooling; cifar:
    3x3 with stride 1, no pooling; cifar_maxpool: 3x3, pooling kept; auto: imagenet, and for other networks
    their own stem."""
    zero_init_residual: bool = False
    """Start the last normalisation of each residual block at zero, so that a block begins as its shortcut
    (ResNets only)."""
    width: int | None = Field(default=None, ge=1, le=1024)
    """Channels of the first convolution of small_cnn or resnet10_narrow; null: 16."""
    patch: int | None = Field(default=None, ge=1, le=64)
    """Side of a vision transformer's patch in pixels, smaller for small images; null: 16."""
    image_size: int | None = Field(default=None, ge=4, le=1024)
    """Side of the images that a vision transformer has a position embedding for each patch of; for views of
    other sizes they are interpolated. null: 224."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        value = _OTHER_SPELLINGS.get(value, value)
        if not value.startswith(_TIMM) and value not in backbone_names():
            raise ValueError(f"no such backbone; {nearest(value, [*backbone_names(), 'timm/NAME'])}")
        return value


class Backbone(nn.Module):
    """A network that maps images to pooled features.

    Args:
        network: maps float images `(N, C, H, W)` to `(N, features)`.
        features: size of a feature vector.
        image_channels: channels of the images it takes.

    Attributes:
        route: how images go through the network (in slices, say); None: all at once.
    """

    route: Callable[[nn.Module, Tensor], Tensor] | None

    def __init__(self, network: nn.Module, features: int, image_channels: int) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.image_channels = image_channels
        self.route = None

    def forward(self, images: Tensor) -> Tensor:
        """Map float images `(N, C, H, W)` to pooled features `(N, features)`."""
        features: Tensor = self.network(images) if self.route is None else self.route(self.network, images)
        return features


def backbone_names() -> list[str]:
    """Return the names `build_backbone` knows, without timm's."""
    return sorted((*_SMALL, *_RESNETS, *_TRANSFORMERS, *_CONVNEXTS))


def build_backbone(config: BackboneConfig, image_channels: int) -> Backbone:
    """Build a backbone with fresh weights from torch's global generator.

    Args:
        config: the network and its options.
        image_channels: 1 for grey images, 3 for colour.

    Returns:
        The backbone, in float32 on the CPU, in training mode.

    Raises:
        InputError: an option the network does not have, or timm is not installed.
    """
    if config.name.startswith(_TIMM):
        return _timm(config, image_channels)
    if config.name in _RESNETS:
        return _torchvision_resnet(config, image_channels)
    if config.name in _TRANSFORMERS:
        return _transformer(config, image_channels)
    if config.name in _CONVNEXTS:
        return _convnext(config, image_channels)
    return _small(config, image_channels)


def check_sizes(backbone: Backbone, name: str, sizes: Iterable[tuple[int, int]]) -> None:
    """Show a backbone an image of each size, so that one it cannot take is refused before training.

    Args:
        backbone: as `build_backbone` made it.
        name: of its config.
        sizes: (height, width) of the images.

    Raises:
        InputError: it cannot take one, or its features are not what it says.
    """
    weight = next(backbone.parameters())
    backbone.eval()
    for height, width in dict.fromkeys(sizes):
        image = weight.new_zeros(1, backbone.image_channels, height, width)
        try:
            with torch.no_grad():
                # Past what it may be compiled to, which takes long.
                features = backbone.network.forward(image)
        except InputError:
            raise
        except Exception as error:
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"backbone.name = {name}: cannot take views of {width}x{height} pixels ({said}); "
                "set another views.size, or another backbone"
            ) from error
        if features.shape != (1, backbone.features):
            raise InputError(
                f"backbone.name = {name}: gives features of shape {tuple(features.shape)} for an image, not "
                f"(1, {backbone.features}); choose a network that pools them"
            )
    backbone.train()


def _torchvision_resnet(config: BackboneConfig, image_channels: int) -> Backbone:
    import torchvision

    _refuse(config, "width", "patch", "image_size")
    network = getattr(torchvision.models, config.name)(
        weights=None, zero_init_residual=config.zero_init_residual
    )
    small_images = config.stem in ("cifar", "cifar_maxpool")
    if small_images or image_channels != 3:
        network.conv1 = (
            nn.Conv2d(image_channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
            if small_images
            else nn.Conv2d(image_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        )
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if config.stem == "cifar":
        network.maxpool = nn.Identity()
    features: int = network.fc.in_features
    network.fc = nn.Identity()
    return Backbone(network, features, image_channels)


def _transformer(config: BackboneConfig, image_channels: int) -> Backbone:
    from raysl.models.vision import VisionTransformer

    _refuse(config, "stem", "zero_init_residual", "width")
    patch, side = config.patch or 16, config.image_size or 224
    if side % patch:
        raise InputError(
            f"backbone.image_size: {side} pixels do not divide into patches of {patch}; set backbone.patch "
            "to a divisor"
        )
    width, heads = {"vit_s_16": (384, 6), "vit_b_16": (768, 12)}[config.name]
    return Backbone(VisionTransformer(image_channels, side, patch, width, heads), width, image_channels)


def _convnext(config: BackboneConfig, image_channels: int) -> Backbone:
    import torchvision

    _refuse(config, "stem", "zero_init_residual", "width", "patch", "image_size")
    # Blocks dropped at random would depend on how rows are divided among workers.
    network = getattr(torchvision.models, config.name)(weights=None, stochastic_depth_prob=0.0)
    if image_channels != 3:
        first: Any = nn.Conv2d(image_channels, network.features[0][0].out_channels, kernel_size=4, stride=4)
        nn.init.trunc_normal_(first.weight, std=0.02)
        nn.init.zeros_(first.bias)
        network.features[0][0] = first
    features: int = network.classifier[2].in_features
    network.classifier[2] = nn.Identity()
    return Backbone(network, features, image_channels)


def _small(config: BackboneConfig, image_channels: int) -> Backbone:
    _refuse(config, "stem", "patch", "image_size")
    width = config.width or 16
    if config.name == "small_cnn":
        _refuse(config, "zero_init_residual")
        cnn = SmallCNN(image_channels, width)
        return Backbone(cnn, cnn.features, image_channels)
    resnet = NarrowResNet(image_channels, width, config.zero_init_residual)
    return Backbone(resnet, resnet.features, image_channels)


def _timm(config: BackboneConfig, image_channels: int) -> Backbone:
    try:
        import timm
    except ImportError:
        raise InputError(
            f"backbone.name: {config.name!r} needs timm, which is not installed; "
            "run: pip install 'raysl[timm]'"
        ) from None
    _refuse(config, "stem", "zero_init_residual", "width", "patch", "image_size")
    name = config.name.removeprefix(_TIMM)
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean 'timm/{close[0]}'?" if close else "timm.list_models() lists its models"
        raise InputError(f"backbone.name: timm has no model {name!r}; {hint}")
    network: Any = timm.create_model(name, pretrained=False, num_classes=0, in_chans=image_channels)
    # Some networks have a layer between the pooled map and the classifier, which stays.
    features = getattr(network, "head_hidden_size", network.num_features)
    return Backbone(network, int(features), image_channels)


def _refuse(config: BackboneConfig, *fields: str) -> None:
    """Refuse options that this network would otherwise silently ignore."""
    for field in fields:
        value, default = getattr(config, field), BackboneConfig.model_fields[field].default
        if value != default:
            shown = "null" if default is None else str(default).lower()
            raise InputError(
                f"backbone.{field}: {config.name} has no such option (got {value!r}); "
                f"set backbone.{field}={shown}"
            )
