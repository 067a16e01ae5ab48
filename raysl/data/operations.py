"""The operations of a view: parameters are drawn for each image on the host, pixels change on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysl.data import colour
from raysl.data.config import (
    BlurConfig,
    CropConfig,
    EqualizeConfig,
    FlipConfig,
    GrayscaleConfig,
    JitterConfig,
    ShiftConfig,
    SolarizeConfig,
)
from raysl.data.decoded import Ids
from raysl.data.draws import uniform
from raysl.data.resample import kernel_taps, resample, resize_taps, shift_taps

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
        fallback = np.minimum(
            sides[none], np.rint(np.concatenate([width / nearest, height * nearest], axis=1))
        )
        size[none] = fallback
        corner[none] = (sides[none] - fallback) // 2
    return np.concatenate([corner, size], axis=1).astype(np.int64)


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


def gaussian_kernels(sigma: Floats, width: int) -> Floats:
    """Return the (N, width) normalised kernel of each of (N,) standard deviations."""
    offsets = np.arange(width) - width // 2
    weight = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def gaussian_blur(x: Tensor, sigma: Floats, width: int) -> Tensor:
    """Return (N, C, H, W) images blurred by (N,) standard deviations with a kernel of `width` pixels."""
    kernel = torch.from_numpy(gaussian_kernels(sigma, width).astype(np.float32)).to(x.device)
    return resample(x, kernel_taps(kernel, x.shape[2]), kernel_taps(kernel, x.shape[3]))


def default_kernel(size: int) -> int:
    """Return SimCLR's kernel width: a tenth of the image, made odd; at least 3."""
    return max(3, 2 * math.floor(0.05 * size) + 1)


def shift_pixels(x: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Return images moved by (N, 2) whole pixels down and right, black where nothing was."""
    offset = torch.from_numpy(offsets).to(x.device)
    taps = [shift_taps(offset[:, axis], x.shape[axis + 2]) for axis in (0, 1)]
    return resample(x, taps[0], taps[1])


def _on_chosen(x: Tensor, chosen: Bools, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return images of which the chosen ones went through `change`."""
    if chosen.all():
        return change(x)
    if not chosen.any():
        return x
    rows = torch.from_numpy(np.flatnonzero(chosen)).to(x.device)
    return x.index_copy_(0, rows, change(x.index_select(0, rows)))


def draw_boxes(config: CropConfig, draws: Draws, height: int | Ints, width: int | Ints) -> Ints:
    """Return the (N, 4) boxes of crops: top, left, height, width."""
    return crop_boxes(draws.uniform(2 * _TRIES + 2), height, width, config, draws.view)


def _crop(x: Tensor, config: CropConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    boxes = draw_boxes(config, draws, x.shape[2], x.shape[3])
    return resized_crop(x, boxes, size, config.interpolation, config.antialias)


def draw_shift(config: ShiftConfig, draws: Draws) -> tuple[Ints, Bools]:
    """Return the (N, 2) pixels down and right, and which images are shifted."""
    u = draws.uniform(3)
    offsets = np.floor(u[:, 1:] * (2 * config.pixels + 1)).astype(np.int64) - config.pixels
    return offsets, draws.chosen(config.p, u[:, 0])


def _shift(x: Tensor, config: ShiftConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    offsets, chosen = draw_shift(config, draws)
    return _on_chosen(x, chosen, lambda part: shift_pixels(part, offsets[chosen]))


def _flip(x: Tensor, config: FlipConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    return _on_chosen(x, draws.chosen(config.p, draws.uniform(1)[:, 0]), lambda part: part.flip(3))


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


def _jitter(x: Tensor, config: JitterConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    return colour.jitter(x, *draw_jitter(config, draws, x.shape[1]))


def _grayscale(x: Tensor, config: GrayscaleConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    if x.shape[1] == 1:
        return x
    chosen = draws.chosen(config.p, draws.uniform(1)[:, 0])
    return _on_chosen(x, chosen, lambda part: colour.luma(part).expand_as(part).contiguous())


def draw_blur(config: BlurConfig, draws: Draws, size: tuple[int, int]) -> tuple[Floats, int, Bools]:
    """Return the (N,) standard deviations, the kernel's width in pixels, and which images are blurred."""
    u = draws.uniform(2)
    sigma = config.sigma[0] + (config.sigma[1] - config.sigma[0]) * u[:, 1]
    return sigma, config.kernel or default_kernel(min(size)), draws.chosen(config.p, u[:, 0])


def _blur(x: Tensor, config: BlurConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    sigma, width, chosen = draw_blur(config, draws, (x.shape[2], x.shape[3]))
    return _on_chosen(x, chosen, lambda part: gaussian_blur(part, sigma[chosen], width))


def _solarize(x: Tensor, config: SolarizeConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    chosen = draws.chosen(config.p, draws.uniform(1)[:, 0])
    return _on_chosen(x, chosen, lambda part: colour.solarize(part, config.threshold))


def _equalize(x: Tensor, config: EqualizeConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    chosen = draws.chosen(config.p, draws.uniform(1)[:, 0])
    return _on_chosen(x, chosen, lambda part: colour.equalize(colour.to_bytes(part)).float().div_(255))


Operation = Callable[[Tensor, Any, Draws, tuple[int, int]], Tensor]
"""Changes float images in [0, 1]; it may overwrite them. The last argument is the size of a view."""

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
