"""Views: random changes of a batch of uint8 images, on any device, with parameters for each image.

The view of an image is a function of (seed, epoch, image id, view). Batches may be cut in any way, so
workers, resumed runs and chunks that fit a processor's cache give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from raysl.data.bands import Scratch
from raysl.data.config import CropConfig, ViewsConfig
from raysl.data.crops import Boxes
from raysl.data.decoded import Ids, Normalization
from raysl.data.draws import key
from raysl.data.exact import Exact, floats
from raysl.data.fused import Fused, mirror_early
from raysl.data.operations import OPERATIONS, Draws, default_kernel, draw_boxes
from raysl.data.shown import Shown
from raysl.data.spec import OpName
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

    Attributes:
        sizes: (height, width) of each view.
        watch: told the name of each operation as it ends, for who measures.

    Raises:
        InputError: a kernel or a crop does not fit the images.
    """

    def __init__(self, config: ViewsConfig, normalization: Normalization, stored: tuple[int, int]) -> None:
        self.config = config
        self.normalization = normalization
        self.stored = stored
        self._scratch = Scratch()
        self.watch: Callable[[str], object] = str
        self.sizes = [stored if side is None else (side, side) for side in config.sizes()]
        self._plain = Shown.of(config, config.sizes()[0], config.evaluation.crop, stored)
        # Without a crop, a view is shown as in evaluation, but at its own size.
        self._starts = [
            None if config.crop is not None or size == stored else Shown.of(config, size[0], size[0], stored)
            for size in self.sizes
        ]
        _check_reach(config, self.sizes, stored)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first view."""
        return self.sizes[0]

    @property
    def plain_size(self) -> tuple[int, int]:
        """(height, width) of the un-augmented view."""
        return self._plain.cut

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
            For each view a normalised (N, C, *sizes[view]) tensor.
        """
        self._check(images, self.stored)
        return [
            self._view(images, ids, view, self._draws(view, ids, seed, epoch), dtype)
            for view in range(self.count)
        ]

    @property
    def crops_first(self) -> bool:
        """Whether the views begin with a crop, which may then be cut elsewhere: see `boxes`."""
        return next((name == "crop" for name, _ in self.config.operations()), False)

    def boxes(self, shapes: Boxes, ids: Ids, *, seed: int, epoch: int) -> list[Boxes]:
        """Return for each view the (N, 4) crops of images of any sizes: top, left, height, width.

        Only where `crops_first`.

        Args:
            shapes: (N, 2) height and width of each image.
            ids: (N,) image ids.
            seed: the run's seed.
            epoch: which epoch's draws.
        """
        crop = self._crop()
        draws = [self._draws(view, ids, seed, epoch)[0] for view in range(self.count)]
        return [draw_boxes(crop, each, shapes[:, 0], shapes[:, 1]) for each in draws]

    @torch.no_grad()
    def of_crops(
        self, crops: Sequence[Tensor], ids: Ids, *, seed: int, epoch: int, dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        """Return the views whose crops, by `boxes`, have been cut and resized already.

        With `colour: fused` and images of one size it makes no difference, to the bit, who called
        `crops.crop_bytes`; with `exact` the crops' rounding to uint8 is one.

        Args:
            crops: for each view (N, C, *sizes[view]) uint8.
            ids: (N,) image ids.
            seed: the run's seed.
            epoch: which epoch's draws.
            dtype: type of the result.
        """
        self._crop()
        views = []
        for view, images in enumerate(crops):
            self._check(images, self.sizes[view])
            draws = self._draws(view, ids, seed, epoch)
            views.append(self._view(images, ids, view, draws, dtype, skip=1))
        return views

    def _crop(self) -> CropConfig:
        if self.config.crop is None or not self.crops_first:
            raise ValueError("these views change the whole image before they crop it")
        return self.config.crop

    def _draws(self, view: int, ids: Ids, seed: int, epoch: int) -> list[Draws]:
        """Return the draws of each operation of a view, in order."""
        places = range(len(self.config.operations()))
        return [Draws(view, key(_VIEWS, seed, epoch, view, place), ids) for place in places]

    def _view(
        self, images: Tensor, ids: Ids, view: int, draws: list[Draws], dtype: torch.dtype, skip: int = 0
    ) -> Tensor:
        """Return one view of a batch, all but the first `skip` operations of it."""
        start = None if skip else self._starts[view]
        size = self.sizes[view]
        fused = self.config.colour == "fused"
        steps = [(name, op, drawn) for (name, op), drawn in zip(self.config.operations(), draws, strict=True)]
        steps = (mirror_early(steps) if fused else steps)[skip:]

        def change(part: Tensor, rows: slice, out: Tensor) -> None:
            shown = part if start is None else start(floats(part))
            images = Fused(shown, self._scratch) if fused else Exact(shown)
            self.watch("convert")
            for name, op, drawn in steps:
                OPERATIONS[name](images, op, drawn.of(rows), size)
                self.watch(name)
            images.normalized(self.normalization, out)
            self.watch("normalize")

        return _in_chunks(images, change, size, dtype)

    @torch.no_grad()
    def plain(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the un-augmented, normalised view of (N, C, H, W) uint8 images."""
        self._check(images, self.stored)
        show = self._plain
        return self._shown(images, show, show.cut, dtype)

    @torch.no_grad()
    def normalize(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return (N, C, H, W) uint8 images of any size, normalised."""
        size = (images.shape[2], images.shape[3])
        self._check(images, size)
        return self._shown(images, None, size, dtype)

    def _shown(self, images: Tensor, show: Shown | None, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
        def change(part: Tensor, rows: slice, out: Tensor) -> None:
            Exact(part if show is None else show(floats(part))).normalized(self.normalization, out)

        return _in_chunks(images, change, size, dtype)

    def _check(self, images: Tensor, size: tuple[int, int]) -> None:
        _, channels, *given = images.shape
        if tuple(given) != size:
            raise InputError(
                f"images of {given[1]}x{given[0]} among images of {size[1]}x{size[0]}: "
                "set data.image_size to store all splits alike"
            )
        if channels != len(self.normalization.mean):
            raise InputError(
                f"the images have {channels} channel(s), data.mean {len(self.normalization.mean)} value(s)"
            )


def _in_chunks(
    images: Tensor, change: Callable[[Tensor, slice, Tensor], None], size: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Return (N, C, *size) images that `change` writes from parts of a batch that stay in the cache.

    Args:
        images: (N, C, H, W).
        change: gets a part, which rows it is, and where to write.
        size: height and width of the result.
        dtype: of the result.
    """
    n, channels, *stored = images.shape
    budget = _CPU_CHUNK if images.device.type == "cpu" else _DEVICE_CHUNK
    step = max(1, budget // (channels * max(int(np.prod(size)), int(np.prod(stored)))))
    out = torch.empty((n, channels, *size), dtype=dtype, device=images.device)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        change(images[rows], rows, out[rows])
    return out


def _check_reach(config: ViewsConfig, sizes: list[tuple[int, int]], stored: tuple[int, int]) -> None:
    """Refuse a blur or a shift that reaches past what it meets: images before the crop, views after it."""

    def met(name: OpName) -> tuple[int, str]:
        whole = config.crop is not None and config.order.index(name) < config.order.index("crop")
        side = min(min(size) for size in ([stored] if whole else sizes))
        return side, f"{'images' if whole else 'views'} of {side} pixel{'s' if side > 1 else ''}"

    if config.blur is not None:
        side, what = met("blur")
        kernel = config.blur.kernel or default_kernel(side)
        if kernel // 2 >= side:
            instead = f"at most {2 * side - 1}" if side > 1 else "set views.blur: null"
            raise InputError(f"views.blur.kernel = {kernel} is too wide for {what}; {instead}")
    if config.shift is not None:
        side, what = met("shift")
        if config.shift.pixels >= side:
            raise InputError(
                f"views.shift.pixels = {config.shift.pixels} may leave no pixel of {what}; at most {side - 1}"
            )
