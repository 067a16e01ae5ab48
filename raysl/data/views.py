"""Views: random changes of a batch of uint8 images, on any device, with parameters for each image.

The view of an image is a function of (seed, epoch, image id, view). Batches may be cut in any way, so
workers, resumed runs and chunks that fit a processor's cache give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from raysl.data.config import ViewsConfig
from raysl.data.decoded import Ids, Normalization
from raysl.data.draws import key
from raysl.data.operations import OPERATIONS, Draws, default_kernel, resized_crop
from raysl.errors import InputError

_VIEWS = 0x51E35
# Values that stay in a core's cache while a chunk of images passes through the operations.
_CPU_CHUNK = 1 << 20
_DEVICE_CHUNK = 1 << 28


class ViewPipeline:
    """Makes the views that a `ViewsConfig` describes.

    Args:
        config: the operations and their order.
        normalization: mean and std of each channel, applied last.
        stored: (height, width) of the stored images.

    Raises:
        InputError: a kernel or a crop does not fit the images.
    """

    def __init__(self, config: ViewsConfig, normalization: Normalization, stored: tuple[int, int]) -> None:
        self.config = config
        self.normalization = normalization
        self.stored = stored
        self.size = stored if config.size is None else (config.size, config.size)
        self._shown, self._shown_crop = _evaluation_sizes(config, stored)
        side = min(self.size)
        kernel = 1 if config.blur is None else config.blur.kernel or default_kernel(side)
        if kernel // 2 >= side:
            raise InputError(
                f"views.blur.kernel = {kernel} is too wide for views of {side} pixels; at most {2 * side - 1}"
            )

    @property
    def count(self) -> int:
        """Views of each image."""
        return self.config.count

    @torch.no_grad()
    def __call__(
        self, images: Tensor, ids: Ids, *, seed: int, epoch: int, dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        """Return the views of a batch.

        Args:
            images: (N, C, H, W) uint8, on the device where the work is to be done.
            ids: (N,) image ids.
            seed: the run's seed.
            epoch: which epoch's draws.
            dtype: type of the result. The work is done in float32 and cast, so that the values are the same.

        Returns:
            For each view a normalised (N, C, *size) tensor.
        """
        views = []
        for view in range(self.count):
            streams = [key(_VIEWS, seed, epoch, view, place) for place in range(len(self.config.order))]

            def change(x: Tensor, rows: slice, view: int = view, streams: list[Ids] = streams) -> Tensor:
                x = self._show(x) if self.config.crop is None and self.size != self.stored else x
                for (name, op), stream in zip(self.config.operations(), streams, strict=False):
                    x = OPERATIONS[name](x, op, Draws(view, stream, ids[rows]), self.size)
                return x

            views.append(self._in_chunks(images, change, self.size, dtype))
        return views

    @torch.no_grad()
    def plain(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the un-augmented, normalised view of (N, C, H, W) uint8 images."""
        return self._in_chunks(images, lambda x, _: self._show(x), self._shown_crop, dtype)

    def _in_chunks(
        self,
        images: Tensor,
        change: Callable[[Tensor, slice], Tensor],
        size: tuple[int, int],
        dtype: torch.dtype,
    ) -> Tensor:
        n, channels, *stored = images.shape
        if tuple(stored) != self.stored:
            raise InputError(
                f"images of {stored[1]}x{stored[0]} among images of {self.stored[1]}x{self.stored[0]}: "
                "set data.image_size to store all splits alike"
            )
        if channels != len(self.normalization.mean):
            raise InputError(
                f"the images have {channels} channel(s), data.mean {len(self.normalization.mean)} value(s)"
            )
        budget = _CPU_CHUNK if images.device.type == "cpu" else _DEVICE_CHUNK
        step = max(1, budget // (channels * max(int(np.prod(size)), int(np.prod(self.stored)))))
        mean = torch.tensor(self.normalization.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.normalization.std, device=images.device).view(1, -1, 1, 1)
        out = torch.empty((n, channels, *size), dtype=dtype, device=images.device)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            x = change(images[rows].to(torch.float32, copy=True).div_(255), rows)
            out[rows] = x.sub_(mean).div_(std)
        return out

    def _show(self, x: Tensor) -> Tensor:
        """Return the evaluation view of float images."""
        if self._shown != self.stored:
            whole = np.tile(np.array([0, 0, *self.stored], np.int64), (len(x), 1))
            x = resized_crop(x, whole, self._shown, self.config.evaluation.interpolation)
        (height, width), (tall, wide) = self._shown, self._shown_crop
        top, left = round((height - tall) / 2), round((width - wide) / 2)
        return x[:, :, top : top + tall, left : left + wide]


def _evaluation_sizes(
    config: ViewsConfig, stored: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size that the evaluation view is resized to, and that of the centre cut from it."""
    crop = config.evaluation.crop or config.size
    short = config.evaluation.resize or crop
    if short is not None and crop is not None and short < crop:
        raise InputError(
            f"views.evaluation: cannot cut {crop} pixels from a short side of {short}: set resize >= crop"
        )
    if short is None:
        resized = stored
    else:
        side = min(stored)
        resized = (max(short, short * stored[0] // side), max(short, short * stored[1] // side))
    cut = resized if crop is None else (crop, crop)
    if cut[0] > resized[0] or cut[1] > resized[1]:
        raise InputError(
            f"views.evaluation.crop is {crop}, more than the image's short side: set views.evaluation.resize"
        )
    return resized, cut
