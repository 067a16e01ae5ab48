"""Crops resized to a view's size, in and out as uint8: torch's own resampling of bytes, as PIL's.

Small images are resized as a batch by matrix products, large ones one after the other. Which of the two
depends on sizes alone, so that an image's pixels do not depend on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raysl.data.resample import Taps, resize_taps, resized_crop

Boxes = NDArray[np.int64]

# Multiplications up to which a product with zeros costs less than torch's overhead for an image.
_SMALL = 600_000


def crop_bytes(
    x: Tensor, boxes: Boxes, size: tuple[int, int], interpolation: str, antialias: bool = True
) -> Tensor:
    """Return (N, C, *size) uint8 crops of (N, C, H, W) uint8 images.

    Args:
        x: the images, on any device. Between devices, and from torchvision's resize of uint8 images, a value
            may differ by 1 because of where it is rounded.
        boxes: (N, 4) top, left, height, width of each.
        size: height and width of a crop.
        interpolation: `bilinear` or `bicubic`.
        antialias: widen the filter when shrinking.
    """
    _, channels, height, width = x.shape
    if x.device.type != "cpu":
        crops = resized_crop(x.float().div_(255), boxes, size, interpolation, antialias)
        return _rounded(crops.mul_(255))
    if channels * size[1] * height * (width + size[0]) <= _SMALL:
        return _by_products(x, boxes, size, interpolation, antialias)
    return crop_each(x, boxes, size, interpolation, antialias)


def crop_each(
    images: Sequence[Tensor] | Tensor,
    boxes: Boxes,
    size: tuple[int, int],
    interpolation: str,
    antialias: bool = True,
) -> Tensor:
    """Return (N, C, *size) uint8 crops of images that may have sizes of their own.

    It is fastest where the channels of a pixel lie together in memory, as decoders leave them.

    Args:
        images: N (C, H, W) uint8 tensors on the host.
        boxes: (N, 4) top, left, height, width of each.
        size: height and width of a crop.
        interpolation: `bilinear` or `bicubic`.
        antialias: widen the filter when shrinking.
    """
    out = torch.empty((len(images), images[0].shape[0], *size), dtype=torch.uint8)
    for image, crop, (top, left, height, width) in zip(images, out, boxes.tolist(), strict=True):
        part = image[None, :, top : top + height, left : left + width]
        crop.copy_(F.interpolate(part, size, mode=interpolation, antialias=antialias)[0])
    return out


def _by_products(
    x: Tensor, boxes: Boxes, size: tuple[int, int], interpolation: str, antialias: bool
) -> Tensor:
    """Return crops by two dense products for each image.

    NumPy calls the matrix product for one image after the other, so each has its own, always the same bits.
    """
    n, channels, height, width = x.shape
    box = torch.from_numpy(boxes)
    longest = boxes[:, 2:].max(axis=0)
    rows, columns = (
        _dense(
            resize_taps(
                box[:, axis], box[:, axis + 2], size[axis], int(longest[axis]), interpolation, antialias
            ),
            x.shape[axis + 2],
        )
        for axis in (0, 1)
    )
    wide = np.matmul(x.contiguous().float().view(n, channels * height, width).numpy(), columns.swapaxes(1, 2))
    torch.from_numpy(wide).clamp_(0, 255)  # what bicubic overshoots is cut off between the axes too
    whole = np.matmul(rows[:, None], wide.reshape(n, channels, height, size[1]))
    return _rounded(torch.from_numpy(whole))


def _dense(taps: Taps, length: int) -> NDArray[np.float32]:
    """Return the (N, S, length) matrices whose products with columns the taps describe."""
    matrix = torch.zeros(*taps.index.shape[:2], length).scatter_add_(2, taps.index, taps.weight)
    return np.asarray(matrix.numpy())


def _rounded(x: Tensor) -> Tensor:
    """Return values on the scale 0-255 as the nearest uint8; `x` is overwritten."""
    return x.add_(0.5).clamp_(0, 255).to(torch.uint8)
