"""Representations of a pixel's neighbourhood: gradient histograms, local contrast; and a cosine transform.

Each takes float images (N, C, H, W) and treats channels as images of their own.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.errors import InputError

_CPU_VALUES = 1 << 21
_DEVICE_VALUES = 1 << 27


def gradient_histograms(
    images: Tensor, bins: int = 24, pool: int = 8, *, reference_exact: bool = False
) -> Tensor:
    """Return histograms of oriented gradients over cells of `pool` x `pool` pixels, means over a cell.

    With Sobel gradients gx, gy (black outside), magnitude m = hypot(gx, gy) and p = bins atan2(gx, gy) / pi,
    so that the bins span half a turn, a pixel votes (1 - f) m for bin floor(p) and f m for the next one,
    f = p - floor(p), both modulo `bins`. Flat pixels do not vote.

    Args:
        images: `(N, C, H, W)`, sides of at least `pool` pixels; what is left of a cell is cut off.
        bins: orientations.
        pool: side of a cell in pixels.
        reference_exact: the authors' votes: m for bin floor(p), 1 - m for bin ceil(p) - by which a flat pixel
            votes 1 for bin 0.

    Returns:
        `(N, C, bins, H // pool, W // pool)`.

    Raises:
        InputError: images smaller than a cell.

    Source: Dalal and Triggs 2005, without their normalisation of blocks; the code's `HOGLayer`.
    """
    n, channels, height, width = images.shape
    if min(height, width) < pool:
        raise InputError(
            f"gradient histograms over cells of {pool} pixels need images as large, got {height}x{width}: "
            "make the cells smaller or leave this representation out"
        )
    x_bhw = images.reshape(n * channels, height, width)
    budget = _CPU_VALUES if x_bhw.device.type == "cpu" else _DEVICE_VALUES
    votes = _authors_votes if reference_exact else _interpolated_votes
    number = torch.arange(bins, device=images.device, dtype=images.dtype)[:, None, None]
    parts = []
    for part in torch.split(x_bhw, max(1, budget // (bins * height * width))):
        magnitude, position = (x[:, None] for x in _gradients(part, bins))
        parts.append(F.avg_pool2d(votes(magnitude, position, number, bins), pool))
    return torch.cat(parts).view(n, channels, bins, height // pool, width // pool)


def _gradients(x_bhw: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return the magnitude and the position p of the direction on the circle of bins, each `(B, H, W)`."""
    x = F.pad(x_bhw, (1, 1, 1, 1))
    across, down = x[..., :-2] - x[..., 2:], x[..., :-2, :] - x[..., 2:, :]
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.hypot(gx, gy), torch.atan2(gx, gy) * (bins / math.pi)


def _interpolated_votes(magnitude: Tensor, position: Tensor, number: Tensor, bins: int) -> Tensor:
    ahead = (position - number).remainder(bins)
    distance = torch.minimum(ahead, bins - ahead)
    return magnitude * (1 - distance).clamp_min(0)


def _authors_votes(magnitude: Tensor, position: Tensor, number: Tensor, bins: int) -> Tensor:
    lower, upper = position.floor().remainder(bins), position.ceil().remainder(bins)
    return magnitude * (lower == number) + (1 - magnitude) * (upper == number)


def local_std(images: Tensor) -> Tensor:
    """Return the standard deviation over 3 x 3 pixels: sqrt(mean of squares - square of mean + 1e-8).

    Borders are reflected. A difference that rounding makes negative counts as 0.

    Args:
        images: `(N, C, H, W)`, sides of at least two pixels.

    Returns:
        `(N, C, H, W)`.

    Source: the code's `std_filter_torch`, which gives 0 for a negative difference, and for a NaN.
    """
    mean, square = (F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1) for x in (images, images**2))
    return ((square - mean**2).clamp_min(0) + 1e-8).sqrt()


def cosine_transform(images: Tensor) -> Tensor:
    """Return the two-dimensional DCT-II, along each axis X_k = 2 sum_n x_n cos(pi k (2n + 1) / (2N)).

    Not the orthonormal one, whose distances are those of the pixels: here the terms with k = 0 count double.

    Args:
        images: `(N, C, H, W)`.

    Returns:
        `(N, C, H, W)`.
    """
    height, width = images.shape[-2:]
    rows = _cosines(height, images.dtype, images.device)
    return rows @ images @ _cosines(width, images.dtype, images.device).T


@lru_cache(maxsize=8)
def _cosines(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    place = torch.arange(size, dtype=torch.float64)[None, :]
    return (2 * torch.cos(math.pi * frequency * (2 * place + 1) / (2 * size))).to(device, dtype)


def split_patches(images: Tensor, down: int, across: int) -> Tensor:
    """Cut images into a grid of patches.

    Args:
        images: `(N, C, H, W)`; what is left over at the right and at the bottom is cut off.
        down: patches in a column.
        across: patches in a row.

    Returns:
        `(N, down * across, C, H // down, W // across)`, row by row.

    Raises:
        InputError: more patches than pixels.
    """
    n, channels, height, width = images.shape
    tall, wide = height // down, width // across
    if tall < 1 or wide < 1:
        raise InputError(f"images of {height}x{width} pixels cannot be cut into {down}x{across} patches")
    grid = images[..., : tall * down, : wide * across].reshape(n, channels, down, tall, across, wide)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n, down * across, channels, tall, wide)
