"""The `memory` feed: every image decoded once, views made from it batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysl.data.batches import Batch, Batching
from raysl.data.decoded import Decoded
from raysl.data.views import ViewPipeline


class MemoryFeed:
    """Batches of views of images that are in memory.

    Args:
        data: the training images; may be read-only, is never written or copied whole.
        views: makes the views.
        batching: which batches.

    Raises:
        InputError: the batch is larger than the data, or does not divide among the workers.
    """

    def __init__(self, data: Decoded, views: ViewPipeline, batching: Batching) -> None:
        batching.check(len(data))
        self.data = data
        self.views = views
        self.batching = batching

    @property
    def steps_per_epoch(self) -> int:
        """Complete global batches in an epoch."""
        return len(self.data) // self.batching.size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_step` on: the same ones, wherever it is begun."""
        order = self.batching.order(epoch, len(self.data))
        steps = iter(range(start_step, self.steps_per_epoch))
        if self.batching.device.type != "cpu":
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
        wanted, data = self.batching, self.data
        rows = wanted.rows(order, step)
        images = _to(data.images[rows], wanted.device)
        views = [self.views.plain(images, wanted.dtype) for _ in range(wanted.plain_views)]
        views += self.views(images, data.ids[rows], seed=wanted.seed, epoch=epoch, dtype=wanted.dtype)
        labels = None if data.labels is None else _to(data.labels[rows], wanted.device)
        return Batch(views, labels, torch.from_numpy(rows))


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


def _to(array: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
