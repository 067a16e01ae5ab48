"""Colour as one affine map for each image, put off to the end: `views.colour: fused`.

Brightness, contrast, saturation, hue (a rotation about the grey axis), grayscale and normalisation send a
pixel v to A v + b. Their product is one 3x4 matrix for each image, which the batch passes through once.
Crop, resize, mirror and blur are weighted means of pixels whose weights sum to 1, so they commute with the
map: each runs where the recipe has it, on pixels not yet coloured. What does not commute (solarize, equalize,
a shift's black margin) first settles the colours of the images it is for.

So two things differ from `exact`, apart from rounding: values are clamped to [0, 1] where colours are
settled, not after each change; and hue turns in the plane of I and Q, which keeps the luma, not around HSV's
hexagon.

Source: the affine form of these operations is that of GPU pipelines (NVIDIA DALI's ColorTwist); YIQ is that
of NTSC.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysl.data import colour
from raysl.data.bands import Scratch, blur
from raysl.data.crops import crop_bytes
from raysl.data.decoded import Normalization
from raysl.data.operations import Bools, Draws, Floats, Ints
from raysl.data.resample import gaussian_kernels, resized_crop, shift_pixels

_LUMA = np.array([0.2989, 0.587, 0.114])
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_TURN = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# A hue matrix is the sum of these, the second times the cosine and the third times the sine of the angle.
_HUE = [np.linalg.inv(_YIQ) @ part @ _YIQ for part in (np.diag([1.0, 0, 0]), np.diag([0, 1.0, 1.0]), _TURN)]
_STEPS = 2.0**16
# Standard deviations beyond which a Gaussian's weights change no 8-bit value.
_REACH = 4.0


Steps = list[tuple[str, Any, Draws]]
"""The operations of a view in order: name, parameters, random numbers."""


class Fused:
    """Images and the colours they are to have: see `operations.Changed`.

    A pixel is to be matrix @ x / 255 + offset, on the scale 0-1.

    Args:
        x: (N, C, H, W) uint8 or float32 in [0, 1]; never written.
        scratch: memory for what is between.
    """

    def __init__(self, x: Tensor, scratch: Scratch) -> None:
        n, c = x.shape[:2]
        self._x = x if x.dtype == torch.uint8 else x.mul(255)  # from here on, floats are on this scale
        self._matrix, self._offset = np.tile(np.eye(c), (n, 1, 1)), np.zeros((n, c))
        self._scratch = scratch

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) as they are now."""
        n, c, h, w = self._x.shape
        return n, c, h, w

    def crop(self, boxes: Ints, size: tuple[int, int], interpolation: str, antialias: bool) -> None:
        """Cut out boxes and resize them, bytes to bytes."""
        if self._x.dtype == torch.uint8:
            self._x = crop_bytes(self._x, boxes, size, interpolation, antialias)
        else:
            self._x = resized_crop(self._x / 255, boxes, size, interpolation, antialias).mul_(255)

    def flip(self, chosen: Bools) -> None:
        """Exchange left and right."""
        if self._x.dtype != torch.uint8:
            self._change(chosen, lambda part: part.flip(3))
        elif chosen.any():
            # One copy of both halves and one back: writing into rows would go byte by byte.
            parts = [
                torch.from_numpy(np.flatnonzero(which)).to(self._x.device) for which in (chosen, ~chosen)
            ]
            mirrored, rest = (self._x.index_select(0, rows) for rows in parts)
            self._x = torch.cat([mirrored.flip(3), rest]).index_select(0, torch.cat(parts).argsort())

    def jitter(self, factors: Floats, order: Ints, chosen: Bools) -> None:
        """Follow the maps by the changes, each image in its own order."""
        mean = self._mean() if (order == 1).any() else np.zeros(self._offset.shape)
        matrix, offset = jitter_maps(mean, factors, order)
        matrix[~chosen], offset[~chosen] = np.eye(matrix.shape[1]), 0.0
        self._then(matrix, offset)

    def grayscale(self, chosen: Bools) -> None:
        """Follow the maps by the luma."""
        matrix = np.where(chosen[:, None, None], _LUMA, np.eye(3))
        self._then(matrix, np.zeros(self._offset.shape))

    def blur(self, sigma: Floats, width: int, chosen: Bools) -> None:
        """Blur by a Gaussian."""
        self._pixels()
        reach = np.minimum(np.ceil(_REACH * sigma).astype(np.int64), width // 2)
        for wide in np.unique(reach[chosen]).tolist():
            now = chosen & (reach == wide)
            kernels = gaussian_kernels(sigma[now], 2 * wide + 1)
            self._change(now, functools.partial(blur, kernels=kernels, scratch=self._scratch))

    def shift(self, offsets: Ints, chosen: Bools) -> None:
        """Move by whole pixels, colours first."""
        self._change(chosen, lambda part: shift_pixels(part, offsets[chosen]), settle=True)

    def solarize(self, threshold: float, chosen: Bools) -> None:
        """Invert values from a threshold on, colours first."""
        limit = 255 * threshold
        self._change(chosen, lambda part: torch.where(part >= limit, 255 - part, part), settle=True)

    def equalize(self, chosen: Bools) -> None:
        """Equalise the histogram of each channel, colours first."""
        self._change(chosen, lambda part: colour.equalize(part.round().to(torch.uint8)).float(), settle=True)

    def normalized(self, normalization: Normalization, out: Tensor) -> None:
        """Write the coloured images, clamped to [0, 1] and normalised, to `out`."""
        mean, scale = np.array(normalization.mean), 1 / np.array(normalization.std)
        matrix, offset = self._matrix * (scale[:, None] / 255), (self._offset - mean) * scale
        x = out if out.dtype == torch.float32 else self._scratch.get("out", out.shape, out.device)
        affine(self._pixels(), matrix, offset, x)
        for channel, (low, high) in enumerate(zip(-mean * scale, (1 - mean) * scale, strict=True)):
            x[:, channel].clamp_(float(low), float(high))
        if x is not out:
            out.copy_(x)

    def _mean(self) -> Floats:
        """Return the (N, C) mean colour of each image: that of its uncoloured pixels, sent through its map.

        Each sum is exact, in whatever order it is added up.
        """
        area = self._x.shape[2] * self._x.shape[3]
        if self._x.dtype == torch.uint8:
            values = self._scratch.get("mean", self._x.shape, self._x.device).copy_(self._x)
            # A sum of bytes is a float32 up to 2^24; so is that of a row of any image.
            sums = values.sum((2, 3)) if area * 255 <= 2**24 else values.sum(3).double().sum(2)
        else:
            sums = (self._x * _STEPS).round_().sum((2, 3), dtype=torch.float64) / _STEPS
        mean = sums.double().cpu().numpy() / (255 * area)
        return np.asarray((self._matrix @ mean[:, :, None])[:, :, 0] + self._offset)

    def _then(self, matrix: Floats, offset: Floats) -> None:
        """Follow each image's map by another one: (N, C, C) and (N, C)."""
        self._offset = (matrix @ self._offset[:, :, None])[:, :, 0] + offset
        self._matrix = matrix @ self._matrix

    def _pixels(self) -> Tensor:
        """Return the images as float32, to be overwritten."""
        if self._x.dtype == torch.uint8:
            self._x = self._scratch.get("pixels", self._x.shape, self._x.device).copy_(self._x)
        return self._x

    def _change(self, chosen: Bools, change: Callable[[Tensor], Tensor], settle: bool = False) -> None:
        """Replace the chosen images, float32 on the scale 0-255, by what `change` makes of them.

        With `settle` they get their colours first, for changes that do not commute with them.
        """
        x, rows = self._pixels(), np.flatnonzero(chosen)
        if not len(rows):
            return
        if rows[-1] - rows[0] + 1 == len(rows):
            part = x[rows[0] : rows[-1] + 1]
        else:
            part = x.index_select(0, _rows(chosen, x))
        plain = np.eye(x.shape[1])
        if settle and ((self._matrix[chosen] != plain).any() or self._offset[chosen].any()):
            coloured = torch.empty_like(part)
            affine(part, self._matrix[chosen], 255 * self._offset[chosen], coloured)
            part = coloured.clamp_(0, 255)
            self._matrix[chosen], self._offset[chosen] = plain, 0.0
        for row, image in zip(rows.tolist(), change(part), strict=True):
            x[row].copy_(image)


def _rows(chosen: Bools, x: Tensor) -> Tensor:
    """Return the numbers of the chosen images, on the images' device."""
    return torch.from_numpy(np.flatnonzero(chosen)).to(x.device)


def affine(x: Tensor, matrix: Floats, offset: Floats, out: Tensor) -> None:
    """Write matrix @ x + offset of every pixel of (N, C, H, W) float32 images to `out`.

    On the host NumPy calls the matrix product for one image after the other; elsewhere it is separate
    products and sums. So the bits do not depend on the number of images.
    """
    n, channels = x.shape[:2]
    weight = torch.from_numpy(matrix.astype(np.float32)).to(x.device)
    bias = torch.from_numpy(offset.astype(np.float32)).to(x.device)[:, :, None, None]
    if x.device.type == "cpu":
        np.matmul(weight.numpy(), x.view(n, channels, -1).numpy(), out=out.view(n, channels, -1).numpy())
        out.add_(bias)
        return
    weight = weight[:, :, :, None, None]
    for row in range(channels):
        out[:, row] = x[:, 0] * weight[:, row, 0]
        for column in range(1, channels):
            out[:, row] += x[:, column] * weight[:, row, column]
    out += bias


def jitter_maps(mean: Floats, factors: Floats, order: Ints) -> tuple[Floats, Floats]:
    """Return the (N, C, C) matrices and (N, C) offsets of colour changes, each image's in its own order.

    Args:
        mean: (N, C) mean colour of each image, from which contrast takes the mean luma.
        factors: (N, 4) parameter of each change.
        order: (N, T) number of the change at each turn: 0 brightness, 1 contrast, 2 saturation, 3 hue.
    """
    n, c = mean.shape
    luma = _LUMA if c == 3 else np.ones(1)
    factor = factors[:, :, None, None]
    changes = np.empty((n, 4, c, c))
    changes[:, :2] = factor[:, :2] * np.eye(c)
    if c == 3:
        changes[:, 2] = factor[:, 2] * np.eye(3) + (1 - factor[:, 2]) * luma
        angle = 2 * np.pi * factor[:, 3]
        changes[:, 3] = _HUE[0] + np.cos(angle) * _HUE[1] + np.sin(angle) * _HUE[2]
    matrix, offset = np.tile(np.eye(c), (n, 1, 1)), np.zeros((n, c))
    each = np.arange(n)
    for due in order.T:
        change = changes[each, due]
        shift = np.where(due == 1, (1 - factors[:, 1]) * (mean * luma).sum(axis=1), 0.0)[:, None]
        matrix = change @ matrix
        offset = (change @ offset[:, :, None])[:, :, 0] + shift
        mean = (change @ mean[:, :, None])[:, :, 0] + shift
    return matrix, offset


def mirror_early(steps: Steps) -> Steps:
    """Return the operations with the mirror right after the crop, where bytes are mirrored; the same views.

    Colours and blur do not mind which way round an image is; a shift does.
    """
    names = [name for name, _, _ in steps]
    if "flip" not in names or "crop" not in names:
        return steps
    flip, crop = names.index("flip"), names.index("crop")
    if flip < crop or "shift" in names[crop:flip]:
        return steps
    rest = [step for step in steps if step[0] != "flip"]
    return [*rest[: crop + 1], steps[flip], *rest[crop + 1 :]]
