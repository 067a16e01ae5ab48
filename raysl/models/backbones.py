"""Backbones: the networks that pretraining leaves behind.

`build_backbone` knows torchvision's ResNets, two small networks of ours for the CPU, and any `timm/<name>`.
torchvision and timm are imported only when one of their networks is asked for.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from raysl.config.base import Config, nearest
from raysl.errors import InputError
from raysl.models.small import NarrowResNet, SmallCNN

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
_SMALL = ("small_cnn", "resnet10_narrow")
_TIMM = "timm/"


class BackboneConfig(Config):
    """Which network is pretrained."""

    name: str = "resnet18"
    """A torchvision ResNet (resnet18, resnet34, resnet50, resnet101), small_cnn (images of about 8 pixels,
    CPU), resnet10_narrow (about 32 pixels, CPU), or timm/NAME with the extra `timm`."""
    stem: Literal["auto", "imagenet", "cifar", "cifar_maxpool"] = "auto"
    """First layers of a torchvision ResNet. imagenet: 7x7 convolution with stride 2 and max pooling; cifar:
    3x3 with stride 1, no pooling; cifar_maxpool: 3x3, pooling kept; auto: imagenet, and for other networks
    their own stem."""
    zero_init_residual: bool = False
    """Start the last normalisation of each residual block at zero, so that a block begins as its shortcut
    (ResNets only)."""
    width: int | None = Field(default=None, ge=1, le=1024)
    """Channels of the first convolution of small_cnn or resnet10_narrow; null: 16."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if not value.startswith(_TIMM) and value not in backbone_names():
            raise ValueError(f"no such backbone; {nearest(value, [*backbone_names(), 'timm/NAME'])}")
        return value


class Backbone(nn.Module):
    """A network that maps images to pooled features.

    Args:
        network: maps float images `(N, C, H, W)` to `(N, features)`.
        features: size of a feature vector.
        image_channels: channels of the images it takes.
    """

    def __init__(self, network: nn.Module, features: int, image_channels: int) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.image_channels = image_channels

    def forward(self, images: Tensor) -> Tensor:
        """Map float images `(N, C, H, W)` to pooled features `(N, features)`."""
        features: Tensor = self.network(images)
        return features


def backbone_names() -> list[str]:
    """Return the names `build_backbone` knows, without timm's."""
    return sorted((*_SMALL, *_RESNETS))


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
    return _small(config, image_channels)


def _torchvision_resnet(config: BackboneConfig, image_channels: int) -> Backbone:
    import torchvision

    _refuse(config, "width")
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


def _small(config: BackboneConfig, image_channels: int) -> Backbone:
    _refuse(config, "stem")
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
    _refuse(config, "stem", "zero_init_residual", "width")
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
