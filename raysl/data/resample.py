"""Crop, resize, shift and blur: sums of weighted rows, then of weighted columns.

Everything that moves pixels is one operation here: each output row is a weighted sum of input rows, with
positions and weights of its own for each image. `embedding_bag` adds the rows of a bag one after the other,
so the result of an image does not depend, to the bit, on its neighbours in the batch; a batched matrix
product would not promise that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

# Pixels from which torch's blocked copy of a matrix, one at a time, beats its strided copy of a whole batch.
_LARGE = 128 * 128


@dataclass(frozen=True)
class Taps:
    """Where each output position of one axis comes from.

    Attributes:
        index: (N, S, K) input positions.
        weight: (N, S, K) weights; 0 for a tap that is not there.
    """

    index: Tensor
    weight: Tensor


def resized_crop(
    x: Tensor, boxes: NDArray[np.int64], size: tuple[int, int], interpolation: str, antialias: bool = True
) -> Tensor:
    """Return (N, C, *size) crops of images, by each one's (N, 4) box: top, left, height, width."""
    box = torch.from_numpy(boxes).to(x.device)
    longest = boxes[:, 2:].max(axis=0)
    taps = [
        resize_taps(box[:, axis], box[:, axis + 2], size[axis], int(longest[axis]), interpolation, antialias)
        for axis in (0, 1)
    ]
    out = resample(x, taps[0], taps[1])
    return out.clamp_(0, 1) if interpolation == "bicubic" else out


def gaussian_kernels(sigma: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the (N, width) normalised kernel of each of (N,) standard deviations."""
    offsets = np.arange(width) - width // 2
    weight = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def gaussian_blur(x: Tensor, sigma: NDArray[np.float64], width: int) -> Tensor:
    """Return (N, C, H, W) images blurred by (N,) standard deviations with a kernel of `width` pixels."""
    kernel = torch.from_numpy(gaussian_kernels(sigma, width).astype(np.float32)).to(x.device)
    return resample(x, kernel_taps(kernel, x.shape[2]), kernel_taps(kernel, x.shape[3]))


def shift_pixels(x: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Return images moved by (N, 2) whole pixels down and right, black where nothing was."""
    offset = torch.from_numpy(offsets).to(x.device)
    taps = [shift_taps(offset[:, axis], x.shape[axis + 2]) for axis in (0, 1)]
    return resample(x, taps[0], taps[1])


def resample(x: Tensor, vertical: Taps, horizontal: Taps) -> Tensor:
    """Return (N, C, Sy, Sx) weighted sums of the pixels of (N, C, H, W) images, one axis after the other."""
    return _turned(_weighted_rows(_turned(_weighted_rows(x, vertical)), horizontal))


def _turned(x: Tensor) -> Tensor:
    """Return images with rows and columns exchanged."""
    if x.device.type != "cpu" or x.shape[2] * x.shape[3] < _LARGE:
        return x.transpose(2, 3).contiguous()
    turned = x.new_empty(x.shape[0], x.shape[1], x.shape[3], x.shape[2])
    for plane, target in zip(x.flatten(0, 1), turned.flatten(0, 1), strict=True):
        target.copy_(plane.t())
    return turned


def _weighted_rows(x: Tensor, taps: Taps) -> Tensor:
    """Return out[n, c, s] = sum_k weight[n, s, k] x[n, c, index[n, s, k]]."""
    n, c, height, width = x.shape
    _, size, count = taps.index.shape
    first_row = torch.arange(n * c, device=x.device).view(n, c, 1, 1) * height
    index = (taps.index[:, None] + first_row).view(-1, count)
    weight = taps.weight[:, None].expand(n, c, size, count).reshape(-1, count)
    bags = F.embedding_bag(index, x.reshape(-1, width), per_sample_weights=weight, mode="sum")
    return bags.view(n, c, size, width)


def resize_taps(start: Tensor, length: Tensor, size: int, longest: int, kind: str, antialias: bool) -> Taps:
    """Return the taps that resize [start, start + length) of an axis to `size` positions, as torchvision.

    Only pixels inside the crop count, as if it had been cut out first.

    Args:
        start: (N,) first positions, integers.
        length: (N,) lengths, integers.
        size: output positions.
        longest: a bound on `length`, known without asking the device.
        kind: `bilinear` or `bicubic`.
        antialias: widen the filter when shrinking; then bicubic has a = -0.5 as in PIL, else -0.75.
    """
    reach = 1.0 if kind == "bilinear" else 2.0
    scale = length.double()[:, None, None] / size
    centre = scale * (torch.arange(size, device=start.device).double()[None, :, None] + 0.5)
    stretch = scale.clamp_min(1.0) if antialias else torch.ones_like(scale)
    taps = math.ceil(2 * reach * (max(1.0, longest / size) if antialias else 1.0))
    lowest = torch.floor(centre - reach * stretch + 0.5)
    position = lowest + torch.arange(taps, device=start.device).double()
    last = length.double()[:, None, None] - 1
    weight = _filter((position - centre + 0.5) / stretch, kind, a=-0.5 if antialias else -0.75)
    if antialias:
        weight = weight * ((position >= 0) & (position <= last))
        total = weight[..., :1]
        for tap in range(1, taps):
            total = total + weight[..., tap : tap + 1]
        weight = weight / total
    inside = torch.minimum(position.clamp_min(0.0), last).long()
    return Taps(inside + start[:, None, None], weight.float())


def _filter(x: Tensor, kind: str, a: float) -> Tensor:
    """Return the interpolation kernel at `x`: the triangle, or Keys' cubic with parameter `a`."""
    x = x.abs()
    if kind == "bilinear":
        return (1 - x).clamp_min(0.0)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def shift_taps(offset: Tensor, size: int) -> Taps:
    """Return the taps that move images by (N,) whole pixels along an axis; what comes from outside is 0."""
    position = torch.arange(size, device=offset.device)[None, :, None] - offset[:, None, None]
    inside = (position >= 0) & (position < size)
    return Taps(position.clamp(0, size - 1), inside.float())


def kernel_taps(kernel: Tensor, size: int) -> Taps:
    """Return the taps of a convolution with each image's own (N, K) kernel, K odd, the borders reflected."""
    n, width = kernel.shape
    offsets = torch.arange(width, device=kernel.device) - width // 2
    position = torch.arange(size, device=kernel.device)[:, None] + offsets
    position = position.abs()
    position = (size - 1) - ((size - 1) - position).abs()
    return Taps(position.expand(n, size, width), kernel[:, None].expand(n, size, width))
