"""`views.colour: exact`: torchvision's changes one after the other, each clamped, on float32 in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from raysl.data import colour
from raysl.data.decoded import Normalization
from raysl.data.operations import Bools, Floats, Ints
from raysl.data.resample import gaussian_blur, resized_crop, shift_pixels


def floats(images: Tensor) -> Tensor:
    """Return uint8 images as new float32 ones in [0, 1]."""
    return images.to(torch.float32, copy=True).div_(255)


class Exact:
    """Images that each operation changes at once: see `operations.Changed`.

    Args:
        x: (N, C, H, W) uint8, never written; or float32 in [0, 1], which may be overwritten.
    """

    def __init__(self, x: Tensor) -> None:
        self._x = floats(x) if x.dtype == torch.uint8 else x

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) as they are now."""
        n, c, h, w = self._x.shape
        return n, c, h, w

    def crop(self, boxes: Ints, size: tuple[int, int], interpolation: str, antialias: bool) -> None:
        """Cut out boxes and resize them."""
        self._x = resized_crop(self._x, boxes, size, interpolation, antialias)

    def shift(self, offsets: Ints, chosen: Bools) -> None:
        """Move by whole pixels."""
        self._change(chosen, lambda part: shift_pixels(part, offsets[chosen]))

    def flip(self, chosen: Bools) -> None:
        """Exchange left and right."""
        self._change(chosen, lambda part: part.flip(3))

    def jitter(self, factors: Floats, order: Ints, chosen: Bools) -> None:
        """Change the colours, each image in its own order."""
        self._x = colour.jitter(self._x, factors, order, chosen)

    def grayscale(self, chosen: Bools) -> None:
        """Replace the colours by their luma."""
        self._change(chosen, lambda part: colour.luma(part).expand_as(part).contiguous())

    def blur(self, sigma: Floats, width: int, chosen: Bools) -> None:
        """Blur by a Gaussian."""
        self._change(chosen, lambda part: gaussian_blur(part, sigma[chosen], width))

    def solarize(self, threshold: float, chosen: Bools) -> None:
        """Invert values from a threshold on."""
        self._change(chosen, lambda part: colour.solarize(part, threshold))

    def equalize(self, chosen: Bools) -> None:
        """Equalise the histogram of each channel."""
        self._change(chosen, lambda part: colour.equalize(colour.to_bytes(part)).float().div_(255))

    def normalized(self, normalization: Normalization, out: Tensor) -> None:
        """Write the images minus the mean and divided by the std to `out`; they are overwritten."""
        mean, std = (
            torch.tensor(values, device=self._x.device).view(1, -1, 1, 1)
            for values in (normalization.mean, normalization.std)
        )
        out.copy_(self._x.sub_(mean).div_(std))

    def _change(self, chosen: Bools, change: Callable[[Tensor], Tensor]) -> None:
        if chosen.all():
            self._x = change(self._x)
        elif chosen.any():
            rows = torch.from_numpy(np.flatnonzero(chosen)).to(self._x.device)
            self._x.index_copy_(0, rows, change(self._x.index_select(0, rows)))
