"""Backbones of ours for machines without an accelerator; they need torch only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def _initialise(module: nn.Module) -> None:
    """He initialisation over the fan-out, as torchvision's ResNets use."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class SmallCNN(nn.Module):
    """Three convolutions for images of about 8 pixels a side, such as scikit-learn's digits.

    The last map is pooled to 2 x 2 rather than to one vector: on images this small, where a stroke is
    matters as much as that it is there.

    Args:
        image_channels: 1 for grey images, 3 for colour.
        width: channels of the first convolution; the others have two and four times as many.
    """

    def __init__(self, image_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv3x3(image_channels, width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _conv3x3(width, 2 * width, stride=2),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            _conv3x3(2 * width, 4 * width, stride=2),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.features = 16 * width
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to features `(N, 16 * width)`."""
        features: Tensor = self.layers(images)
        return features


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int, zero_init_residual: bool) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        if zero_init_residual:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return F.relu(out)


class NarrowResNet(nn.Module):
    """A ten-layer ResNet with few channels, for images of about 32 pixels a side.

    The stem halves the resolution, which is what keeps it under a millisecond an image on one core.

    Args:
        image_channels: 1 for grey images, 3 for colour.
        width: channels of the stem and the first of four stages; each further stage doubles them.
        zero_init_residual: start every block as its shortcut.
    """

    def __init__(self, image_channels: int, width: int, zero_init_residual: bool) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.stem = nn.Sequential(
            _conv3x3(image_channels, width, stride=2), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential(
            *(
                ResidualBlock(inputs, outputs, 1 if index == 0 else 2, zero_init_residual)
                for index, (inputs, outputs) in enumerate(zip([width, *widths[:-1]], widths, strict=True))
            )
        )
        self.features = widths[-1]
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to features `(N, 8 * width)`."""
        features: Tensor = self.stages(self.stem(images)).mean(dim=(2, 3))
        return features
