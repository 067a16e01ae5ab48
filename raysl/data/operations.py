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

    def uniform(self, count: int) -> Floats:
        """Return (N, count) numbers in [0, 1)."""
        return uniform(self.stream, self.ids, count)

    def chosen(self, p: float | tuple[float, ...], u: Floats) -> NDArray[np.bool_]:
        """Return which images the operation is for: those whose (N,) draw is below the view's probability."""
        return np.asarray(u < (p[self.view] if isinstance(p, tuple) else p))


def crop_boxes(u: Floats, height: int, width: int, config: CropConfig) -> NDArray[np.int64]:
    """Return (N, 4) boxes: top, left, height, width.

    As torchvision's `RandomResizedCrop`: the first of ten draws of area and ratio that fits, else the largest
    centred box of an allowed ratio.

    Args:
        u: (N, 22) uniform draws: ten areas, ten ratios, two positions.
        height: of the images.
        width: of the images.
        config: the ranges.
    """
    area = height * width * (config.scale[0] + (config.scale[1] - config.scale[0]) * u[:, :_TRIES])
    low, high = np.log(config.ratio)
    ratio = np.exp(low + (high - low) * u[:, _TRIES : 2 * _TRIES])
    wide, tall = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = np.argmax(fits, axis=1)[:, None]
    size = np.concatenate([np.take_along_axis(tall, first, 1), np.take_along_axis(wide, first, 1)], axis=1)
    corner = np.floor(u[:, 2 * _TRIES :] * (np.array([height, width]) - size + 1))
    nearest = min(max(width / height, config.ratio[0]), config.ratio[1])
    fallback = np.array([min(height, round(width / nearest)), min(width, round(height * nearest))])
    none = ~fits.any(axis=1)
    size[none] = fallback
    corner[none] = (np.array([height, width]) - fallback) // 2
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


def _on_chosen(x: Tensor, chosen: NDArray[np.bool_], change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return images of which the chosen ones went through `change`."""
    if chosen.all():
        return change(x)
    if not chosen.any():
        return x
    rows = torch.from_numpy(np.flatnonzero(chosen)).to(x.device)
    return x.index_copy_(0, rows, change(x.index_select(0, rows)))


def _crop(x: Tensor, config: CropConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    boxes = crop_boxes(draws.uniform(2 * _TRIES + 2), x.shape[2], x.shape[3], config)
    return resized_crop(x, boxes, size, config.interpolation, config.antialias)


def _shift(x: Tensor, config: ShiftConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    u = draws.uniform(3)
    chosen = draws.chosen(config.p, u[:, 0])
    offsets = np.floor(u[:, 1:] * (2 * config.pixels + 1)).astype(np.int64) - config.pixels
    return _on_chosen(x, chosen, lambda part: shift_pixels(part, offsets[chosen]))


def _flip(x: Tensor, config: FlipConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    return _on_chosen(x, draws.chosen(config.p, draws.uniform(1)[:, 0]), lambda part: part.flip(3))


def _jitter(x: Tensor, config: JitterConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    u = draws.uniform(9)
    strength = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    low, high = np.maximum(0.0, 1 - strength), 1 + strength
    low[3], high[3] = -config.hue, config.hue
    factors = low + (high - low) * u[:, 1:5]
    active = np.flatnonzero(strength > 0)
    if x.shape[1] == 1:
        active = active[active < 2]
    order = active[np.argsort(u[:, 5 : 5 + len(active)], axis=1, kind="stable")]
    return colour.jitter(x, factors, order, draws.chosen(config.p, u[:, 0]))


def _grayscale(x: Tensor, config: GrayscaleConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    if x.shape[1] == 1:
        return x
    chosen = draws.chosen(config.p, draws.uniform(1)[:, 0])
    return _on_chosen(x, chosen, lambda part: colour.luma(part).expand_as(part).contiguous())


def _blur(x: Tensor, config: BlurConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    u = draws.uniform(2)
    chosen = draws.chosen(config.p, u[:, 0])
    sigma = config.sigma[0] + (config.sigma[1] - config.sigma[0]) * u[chosen, 1]
    width = config.kernel or default_kernel(min(x.shape[2:]))
    return _on_chosen(x, chosen, lambda part: gaussian_blur(part, sigma, width))


def _solarize(x: Tensor, config: SolarizeConfig, draws: Draws, size: tuple[int, int]) -> Tensor:
    chosen = draws.chosen(config.p, draws.uniform(1)[:, 0])
    return _on_chosen(x, chosen, lambda part: colour.solarize(part, config.threshold))


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
}
