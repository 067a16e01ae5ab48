"""The operations of a view: parameters are drawn for each image on the host, pixels change on the device.

One table serves both kinds of colour: an operation draws, and tells images that are changed in the one way or
the other (`exact.Exact`, `fused.Fused`) what to become.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raysl.data.decoded import Ids
from raysl.data.draws import uniform
from raysl.data.spec import (
    BlurConfig,
    CropConfig,
    EqualizeConfig,
    FlipConfig,
    GrayscaleConfig,
    JitterConfig,
    OpConfig,
    ShiftConfig,
    SolarizeConfig,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_TRIES = 10


@dataclass(frozen=True)
class Draws:
    """The random numbers of one operation in one view.

    Attributes:
        view: index of the view.
        stream: key of the operation's draws.
        ids: (N,) image ids.
    """

    view: int
    stream: Ids
    ids: Ids

    def of(self, rows: slice) -> Draws:
        """Return the draws of some of the images."""
        return Draws(self.view, self.stream, self.ids[rows])

    def uniform(self, count: int) -> Floats:
        """Return (N, count) numbers in [0, 1)."""
        return uniform(self.stream, self.ids, count)

    def chosen(self, p: float | tuple[float, ...], u: Floats) -> Bools:
        """Return which images the operation is for: those whose (N,) draw is below the view's probability."""
        return np.asarray(u < (p[self.view] if isinstance(p, tuple) else p))


def crop_boxes(u: Floats, height: int | Ints, width: int | Ints, config: CropConfig, view: int = 0) -> Ints:
    """Return (N, 4) boxes: top, left, height, width.

    As torchvision's `RandomResizedCrop`: the first of ten draws of area and ratio that fits, else the largest
    centred box of an allowed ratio.

    Args:
        u: (N, 22) uniform draws: ten areas, ten ratios, two positions.
        height: of the images, or (N,) of each.
        width: of the images, or (N,) of each.
        config: the ranges.
        view: whose range of area, where each view has its own.
    """
    sides = np.broadcast_to(np.stack([height, width], axis=-1), (len(u), 2))
    height, width = sides[:, :1], sides[:, 1:]
    smallest, largest = config.scale_of(view)
    area = height * width * (smallest + (largest - smallest) * u[:, :_TRIES])
    low, high = np.log(config.ratio)
    ratio = np.exp(low + (high - low) * u[:, _TRIES : 2 * _TRIES])
    wide, tall = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = np.argmax(fits, axis=1)[:, None]
    size = np.concatenate([np.take_along_axis(tall, first, 1), np.take_along_axis(wide, first, 1)], axis=1)
    corner = np.floor(u[:, 2 * _TRIES :] * (sides - size + 1))
    none = ~fits.any(axis=1)
    if none.any():
        height, width = height[none], width[none]
        nearest = np.clip(width / height, *config.ratio)
        box = np.rint(np.concatenate([width / nearest, height * nearest], axis=1))
        fallback = np.clip(box, 1, sides[none])
        size[none] = fallback
        corner[none] = (sides[none] - fallback) // 2
    return np.concatenate([corner, size], axis=1).astype(np.int64)


def default_kernel(size: int) -> int:
    """Return SimCLR's kernel width: a tenth of the image, made odd; at least 3."""
    return max(3, 2 * math.floor(0.05 * size) + 1)


class Changed(Protocol):
    """Images that the operations of a view change, in place or not; (N,) `chosen` says which of them."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) as they are now."""

    def crop(self, boxes: Ints, size: tuple[int, int], interpolation: str, antialias: bool) -> None:
        """Cut out (N, 4) boxes (top, left, height, width) and resize them."""

    def shift(self, offsets: Ints, chosen: Bools) -> None:
        """Move by (N, 2) pixels down and right, black where nothing was."""

    def flip(self, chosen: Bools) -> None:
        """Exchange left and right."""

    def jitter(self, factors: Floats, order: Ints, chosen: Bools) -> None:
        """Change brightness, contrast, saturation and hue by (N, 4) factors in (N, T) orders."""

    def grayscale(self, chosen: Bools) -> None:
        """Replace three channels by their luma."""

    def blur(self, sigma: Floats, width: int, chosen: Bools) -> None:
        """Blur by (N,) standard deviations with a kernel of `width` pixels."""

    def solarize(self, threshold: float, chosen: Bools) -> None:
        """Invert values from a threshold on, on the scale 0-1."""

    def equalize(self, chosen: Bools) -> None:
        """Equalise the histogram of each channel."""


def draw_boxes(config: CropConfig, draws: Draws, height: int | Ints, width: int | Ints) -> Ints:
    """Return the (N, 4) boxes of crops: top, left, height, width."""
    return crop_boxes(draws.uniform(2 * _TRIES + 2), height, width, config, draws.view)


def draw_chosen(config: OpConfig, draws: Draws) -> Bools:
    """Return which images get an operation that has no more to draw."""
    return draws.chosen(config.p, draws.uniform(1)[:, 0])


def draw_shift(config: ShiftConfig, draws: Draws) -> tuple[Ints, Bools]:
    """Return the (N, 2) pixels down and right, and which images are shifted."""
    u = draws.uniform(3)
    offsets = np.floor(u[:, 1:] * (2 * config.pixels + 1)).astype(np.int64) - config.pixels
    return offsets, draws.chosen(config.p, u[:, 0])


def draw_jitter(config: JitterConfig, draws: Draws, channels: int) -> tuple[Floats, Ints, Bools]:
    """Return the (N, 4) factors of the changes, their (N, T) order, and which images are jittered."""
    u = draws.uniform(9)
    strength = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    low, high = np.maximum(0.0, 1 - strength), 1 + strength
    low[3], high[3] = -config.hue, config.hue
    factors = low + (high - low) * u[:, 1:5]
    active = np.flatnonzero(strength > 0)
    if channels == 1:
        active = active[active < 2]
    order = active[np.argsort(u[:, 5 : 5 + len(active)], axis=1, kind="stable")]
    return factors, order, draws.chosen(config.p, u[:, 0])


def draw_blur(config: BlurConfig, draws: Draws, size: tuple[int, int]) -> tuple[Floats, int, Bools]:
    """Return the (N,) standard deviations, the kernel's width in pixels, and which images are blurred."""
    u = draws.uniform(2)
    sigma = config.sigma[0] + (config.sigma[1] - config.sigma[0]) * u[:, 1]
    return sigma, config.kernel or default_kernel(min(size)), draws.chosen(config.p, u[:, 0])


def _crop(images: Changed, config: CropConfig, draws: Draws, size: tuple[int, int]) -> None:
    boxes = draw_boxes(config, draws, *images.shape[2:])
    images.crop(boxes, size, config.interpolation, config.antialias)


def _shift(images: Changed, config: ShiftConfig, draws: Draws, size: tuple[int, int]) -> None:
    images.shift(*draw_shift(config, draws))


def _flip(images: Changed, config: FlipConfig, draws: Draws, size: tuple[int, int]) -> None:
    images.flip(draw_chosen(config, draws))


def _jitter(images: Changed, config: JitterConfig, draws: Draws, size: tuple[int, int]) -> None:
    images.jitter(*draw_jitter(config, draws, images.shape[1]))


def _grayscale(images: Changed, config: GrayscaleConfig, draws: Draws, size: tuple[int, int]) -> None:
    if images.shape[1] == 3:
        images.grayscale(draw_chosen(config, draws))


def _blur(images: Changed, config: BlurConfig, draws: Draws, size: tuple[int, int]) -> None:
    images.blur(*draw_blur(config, draws, images.shape[2:]))


def _solarize(images: Changed, config: SolarizeConfig, draws: Draws, size: tuple[int, int]) -> None:
    images.solarize(config.threshold, draw_chosen(config, draws))


def _equalize(images: Changed, config: EqualizeConfig, draws: Draws, size: tuple[int, int]) -> None:
    images.equalize(draw_chosen(config, draws))


Operation = Callable[[Changed, Any, Draws, tuple[int, int]], None]
"""Draws and has images changed. The last argument is the size of a view."""

OPERATIONS: dict[str, Operation] = {
    "crop": _crop,
    "shift": _shift,
    "flip": _flip,
    "jitter": _jitter,
    "grayscale": _grayscale,
    "blur": _blur,
    "solarize": _solarize,
    "equalize": _equalize,
}
