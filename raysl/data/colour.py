"""Colour operations on float images in [0, 1], torchvision's definitions, with a parameter for each image.

Each is a chain of separate multiplications, additions and comparisons, whose results IEEE arithmetic fixes;
the one sum over an image (contrast) is exact. So an image's pixels do not depend on its neighbours in the
batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Sums of so many equal steps stay exact in float64 in whatever order they are added, up to 2^29 pixels.
_STEPS = 2.0**24


def luma(x: Tensor) -> Tensor:
    """Return the (N, 1, H, W) grey values 0.2989 R + 0.587 G + 0.114 B of (N, 3, H, W) images."""
    grey = x[:, 0:1] * 0.2989
    grey += x[:, 1:2] * 0.587
    grey += x[:, 2:3] * 0.114
    return grey


def brightness_(x: Tensor, factor: Tensor) -> None:
    """Scale images by (N,) factors, in place."""
    x.mul_(factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast_(x: Tensor, factor: Tensor) -> None:
    """Scale the distance of images from their mean grey value by (N,) factors, in place."""
    factor = factor.view(-1, 1, 1, 1)
    grey = luma(x) if x.shape[1] == 3 else x.clone()
    steps = grey.mul_(_STEPS).round_().flatten(1).sum(1, dtype=torch.float64)
    mean = (steps / (_STEPS * grey[0].numel())).float().view(-1, 1, 1, 1)
    x.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)


def saturation_(x: Tensor, factor: Tensor) -> None:
    """Scale the distance of (N, 3, H, W) images from their own grey by (N,) factors, in place."""
    factor = factor.view(-1, 1, 1, 1)
    grey = luma(x).mul_(1 - factor)
    x.mul_(factor).add_(grey).clamp_(0, 1)


def hue_(x: Tensor, shift: Tensor) -> None:
    """Turn the hue of (N, 3, H, W) images by (N,) shares of the colour circle, in place.

    The way to HSV and back, without a branch. With chroma c = max - min, the hue on a circle of 6 is
    h = copysign(1 + (G + B - R - min) / c, G - B), and with the ramp u(t) = clamp(|h - t| - 1, 0, 1) for h in
    [0, 6) the colours are R = min + c u(3), G = max - c u(2), B = max - c u(4).
    """
    red, green, blue = x.unbind(1)
    top = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = top - low
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)
    hue.copysign_(green - blue).add_((shift * 6).view(-1, 1, 1))
    hue -= torch.floor(hue / 6).mul_(6)
    torch.add(low, _ramp(hue, 3).mul_(chroma), out=red)
    torch.sub(top, _ramp(hue, 2).mul_(chroma), out=green)
    torch.sub(top, _ramp(hue, 4).mul_(chroma), out=blue)
    x.clamp_(0, 1)


def _ramp(hue: Tensor, centre: int) -> Tensor:
    return (hue - centre).abs_().sub_(1).clamp_(0, 1)


def solarize(x: Tensor, threshold: float) -> Tensor:
    """Invert the values that are at least `threshold`."""
    return torch.where(x >= threshold, 1 - x, x)


def to_bytes(x: Tensor) -> Tensor:
    """Return float images in [0, 1] as uint8, each value v as floor(255.999 v): torchvision's way."""
    return x.mul(255.999).to(torch.uint8)


def equalize(x: Tensor) -> Tensor:
    """Spread each channel's values so that every value is about as frequent, as PIL and torchvision do.

    With the counts h of a channel and step = floor((pixels - h[last value there is]) / 255), value v becomes
    floor((sum of h below v + floor(step / 2)) / step), at most 255; a channel with step 0 stays as it is.

    Args:
        x: (N, C, H, W) uint8.
    """
    n, c, height, width = x.shape
    planes = x.reshape(n * c, height * width).long()
    first = torch.arange(n * c, device=x.device)[:, None] * 256
    counts = torch.bincount((planes + first).flatten(), minlength=n * c * 256).view(n * c, 256)
    below = counts.cumsum(1) - counts
    step = below.gather(1, planes.amax(1, keepdim=True)) // 255
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max_(255)
    table = torch.where(step == 0, torch.arange(256, device=x.device), table)
    return table.gather(1, planes).to(torch.uint8).view_as(x)


_CHANGES = (brightness_, contrast_, saturation_, hue_)


def jitter(
    x: Tensor, factors: NDArray[np.float64], order: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> Tensor:
    """Apply brightness, contrast, saturation and hue changes, each image in its own order.

    At each turn the images are sorted by the change that is due, so that a change runs over one slice of the
    batch.

    Args:
        x: (N, C, H, W) images; left as they are.
        factors: (N, 4) parameter of each change.
        order: (N, T) number of the change at each turn: 0 brightness, 1 contrast, 2 saturation, 3 hue.
        chosen: (N,) which images to change at all.
    """
    n, turns = order.shape
    place = np.arange(n)
    for turn in range(turns):
        due = np.where(chosen, order[:, turn], len(_CHANGES))
        sequence = np.argsort(due, kind="stable")
        x = x.index_select(0, torch.from_numpy(place[sequence]).to(x.device))
        place[sequence] = np.arange(n)
        ends = np.searchsorted(due[sequence], np.arange(len(_CHANGES) + 1))
        for number, change in enumerate(_CHANGES):
            first, last = int(ends[number]), int(ends[number + 1])
            if first < last:
                factor = torch.from_numpy(factors[sequence[first:last], number].astype(np.float32))
                change(x[first:last], factor.to(x.device))
    return x.index_select(0, torch.from_numpy(place).to(x.device))
