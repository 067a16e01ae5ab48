"""The `memory` feed: every image decoded once, views made from it batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysl.data.decoded import Decoded
from raysl.data.draws import key, permutation
from raysl.data.views import ViewPipeline
from raysl.errors import InputError

_ORDER = 0x0DE2


@dataclass(frozen=True)
class Batch:
    """This worker's part of a global batch.

    Attributes:
        views: for each view (B / world size, C, H, W), normalised; un-augmented ones first.
        labels: (B / world size,) int64, or None without labels.
        indices: (B / world size,) rows of the training set, int64, on the host.
    """

    views: list[Tensor]
    labels: Tensor | None
    indices: Tensor


class MemoryFeed:
    """Batches of views of images that are in memory.

    Global batch k of an epoch holds rows [kB, (k+1)B) of a permutation that depends on (seed, epoch), and
    worker r its r-th equal slice, so that any number of workers sees the same batches. An incomplete last
    batch is left out.

    Args:
        data: the training images; may be read-only, is never written or copied whole.
        views: makes the views.
        batch_size: B, images of a global batch.
        seed: the run's seed.
        rank: this worker's number.
        world_size: how many workers there are.
        device: where views are made.
        dtype: type of the views; the work is done in float32 and cast.
        plain_views: un-augmented views, all the same, to put before the augmented ones.

    Raises:
        InputError: the batch is larger than the data, or does not divide among the workers.
    """

    def __init__(
        self,
        data: Decoded,
        views: ViewPipeline,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        plain_views: int = 0,
    ) -> None:
        check_batch_size(batch_size, len(data), world_size)
        self.data = data
        self.views = views
        self.batch_size = batch_size
        self._seed = seed
        self._rank, self._world = rank, world_size
        self._device = torch.device(device)
        self._dtype = dtype
        self._plain_views = plain_views

    @property
    def steps_per_epoch(self) -> int:
        """Complete global batches in an epoch."""
        return len(self.data) // self.batch_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_step` on: the same ones, wherever it is begun."""
        order = epoch_order(self._seed, epoch, len(self.data))
        steps = iter(range(start_step, self.steps_per_epoch))
        if self._device.type != "cpu":
            # A device makes views behind the host's back already.
            yield from (self._batch(epoch, order, step) for step in steps)
            return
        with ThreadPoolExecutor(1, "views") as pool:
            ahead = [pool.submit(self._batch, epoch, order, step) for step in islice(steps, 1)]
            while ahead:
                batch = ahead.pop().result()
                # The next one is made while this one is trained on.
                ahead += [pool.submit(self._batch, epoch, order, step) for step in islice(steps, 1)]
                yield batch

    def _batch(self, epoch: int, order: NDArray[np.int64], step: int) -> Batch:
        rows = local_rows(order, step, self.batch_size, self._rank, self._world)
        images = _to(self.data.images[rows], self._device)
        views = [self.views.plain(images, self._dtype) for _ in range(self._plain_views)]
        views += self.views(images, self.data.ids[rows], seed=self._seed, epoch=epoch, dtype=self._dtype)
        labels = None if self.data.labels is None else _to(self.data.labels[rows], self._device)
        return Batch(views, labels, torch.from_numpy(rows))


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """Return the (N,) order of the training images in an epoch, which is that of every feed."""
    return permutation(key(_ORDER, seed, epoch), images)


def local_rows(
    order: NDArray[np.int64], step: int, batch_size: int, rank: int, world_size: int
) -> NDArray[np.int64]:
    """Return a worker's rows of a global batch, of which it has an equal slice."""
    local = batch_size // world_size
    first = step * batch_size + rank * local
    return order[first : first + local]


def plain(
    data: Decoded,
    views: ViewPipeline,
    batch_size: int = 512,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Yield every image un-augmented and normalised, in the order of rows; the last batch may be smaller."""
    for start in range(0, len(data), batch_size):
        yield views.plain(_to(data.images[start : start + batch_size].copy(), torch.device(device)), dtype)


def check_batch_size(batch_size: int, images: int, world_size: int = 1) -> None:
    """Refuse a global batch that the data or the workers cannot make.

    Raises:
        InputError: `batch_size` is below 1, above the number of images, or not a multiple of `world_size`.
    """
    if not 1 <= batch_size <= images:
        largest = images // world_size * world_size
        raise InputError(
            f"batch size {batch_size} with {images} training images: choose 1 to {largest}, or more data"
        )
    if batch_size % world_size:
        below, above = batch_size // world_size * world_size, -(-batch_size // world_size) * world_size
        near = [str(value) for value in (below, above) if 0 < value <= images]
        raise InputError(
            f"batch size {batch_size} does not divide among {world_size} workers: "
            f"use {' or '.join(near) or 'fewer workers'}"
        )


def _to(array: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
