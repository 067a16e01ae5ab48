"""The `ray` feed: images decoded again in each epoch by a crew on CPUs, a bounded number of them ahead.

Its batches are those of the `memory` feed. The crew decodes, and crops images that have sizes of their own;
bytes reach the worker, which makes the views on its device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from raysl.data import tasks
from raysl.data.crew import Handle
from raysl.data.encoded import Encoded
from raysl.data.memory import Batch, check_batch_size, epoch_order, local_rows
from raysl.data.tasks import Ints
from raysl.data.views import ViewPipeline

AHEAD_SHARE = 0.1
"""Of the object store, that decoded images may take which no worker has come to yet."""
_TASKS_PER_SLOT = 2
"""One that runs and one that waits, so that a CPU which has finished finds the next."""
_MOST_THREADS = 8


@dataclass
class _Ahead:
    """A batch that is being made.

    Attributes:
        epoch: its epoch.
        step: its place in the epoch.
        rows: of the training set, those of this worker.
        parts: for each task, which of the batch's images it decodes and its handle.
        views: for each part, its views to come; on a CPU only.
    """

    epoch: int
    step: int
    rows: Ints
    parts: list[tuple[slice, Handle]]
    views: list[Future[list[Tensor]]] = field(default_factory=list)


class RayFeed:
    """Batches of views of images that are kept encoded.

    Args:
        data: the training images.
        views: makes the views.
        batch_size: B, images of a global batch.
        seed: the run's seed.
        rank: this worker's number.
        world_size: how many workers there are.
        device: where views are made.
        dtype: type of the views; the work is done in float32 and cast.
        plain_views: un-augmented views, all the same, to put before the augmented ones.
        epochs: of the run; while an epoch ends, the next one's first batches are made already.

    Raises:
        InputError: the batch is larger than the data, or does not divide among the workers.
    """

    def __init__(
        self,
        data: Encoded,
        views: ViewPipeline,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        plain_views: int = 0,
        epochs: int | None = None,
    ) -> None:
        check_batch_size(batch_size, len(data), world_size)
        self.data = data
        self.views = views
        self.batch_size = batch_size
        self._seed = seed
        self._rank, self._world = rank, world_size
        self._local = batch_size // world_size
        self._device = torch.device(device)
        self._dtype = dtype
        self._plain_views = plain_views
        self._epochs = epochs
        arrays = views.count + bool(plain_views) if data.natural else 1
        tasks_of_batch = -(-self._local // data.images_per_task(arrays))
        self._chunk = -(-self._local // tasks_of_batch)
        slots = data.crew.slots
        batch_bytes = self._local * arrays * data.channels * data.size[0] * data.size[1]
        most = int(AHEAD_SHARE * data.crew.room // batch_bytes)
        self.ahead = max(1, min(most, max(2, -(-_TASKS_PER_SLOT * slots // tasks_of_batch))))
        """Batches that are made before they are asked for."""
        threads = min(slots, _MOST_THREADS)
        self._pool = ThreadPoolExecutor(threads, "views") if self._device.type == "cpu" else None
        self._queue: deque[_Ahead] = deque()
        self._order: tuple[int, Ints] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Complete global batches in an epoch."""
        return len(self.data) // self.batch_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_step` on: the same ones, wherever it is begun.

        Images of earlier steps are not decoded.
        """
        for step in range(start_step, self.steps_per_epoch):
            if not self._queue or (self._queue[0].epoch, self._queue[0].step) != (epoch, step):
                self._queue.clear()
            self._fill(epoch, step)
            batch = self._queue.popleft()
            if self._pool is not None:
                # The batch after this one too, so that no thread waits for the last image of this one.
                for coming in (batch, *list(self._queue)[:1]):
                    self._begin_views(coming, self._pool)
            views = self._views(batch)
            self._fill(epoch, step + 1)
            labels = None
            if self.data.labels is not None:
                labels = torch.from_numpy(self.data.labels[batch.rows]).to(self._device)
            yield Batch(views, labels, torch.from_numpy(batch.rows))

    def _fill(self, epoch: int, step: int) -> None:
        """Begin batches from a position on until enough are under way."""
        if self._queue:
            epoch, step = self._queue[-1].epoch, self._queue[-1].step + 1
        while len(self._queue) < self.ahead:
            if step >= self.steps_per_epoch:
                epoch, step = epoch + 1, 0
            if self._epochs is not None and epoch >= self._epochs:
                return
            self._queue.append(self._begin(epoch, step))
            step += 1

    def _begin(self, epoch: int, step: int) -> _Ahead:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self._seed, epoch, len(self.data))
        rows = local_rows(self._order[1], step, self.batch_size, self._rank, self._world)
        parts = []
        for start in range(0, self._local, self._chunk):
            part = slice(start, min(start + self._chunk, self._local))
            parts.append((part, self._decode(rows[part], epoch)))
        return _Ahead(epoch, step, rows, parts)

    def _decode(self, rows: Ints, epoch: int) -> Handle:
        data = self.data
        if not data.natural:
            return data.submit(tasks.decode, rows, data.channels, data.stored)
        boxes = self.views.boxes(data.shapes[rows], data.ids[rows], seed=self._seed, epoch=epoch)
        crop = self.views.config.crop
        bicubic = crop is not None and crop.interpolation == "bicubic"
        plain = data.size[0] if self._plain_views else None
        return data.submit(tasks.decode_crops, rows, data.channels, boxes, self.views.sizes, bicubic, plain)

    def _begin_views(self, batch: _Ahead, pool: ThreadPoolExecutor) -> None:
        if not batch.views:
            batch.views = [
                pool.submit(self._views_of, batch.epoch, batch.rows[part], handle)
                for part, handle in batch.parts
            ]
            batch.parts = []

    def _views(self, batch: _Ahead) -> list[Tensor]:
        if not batch.views:
            return self._views_of(batch.epoch, batch.rows, *(handle for _, handle in batch.parts))
        made = [future.result() for future in batch.views]
        return made[0] if len(made) == 1 else [torch.cat(views) for views in zip(*made, strict=True)]

    def _views_of(self, epoch: int, rows: Ints, *handles: Handle) -> list[Tensor]:
        """Return the views of rows whose images come in the results of some tasks, in their order."""
        results = [self.data.crew.result(handle) for handle in handles]
        ids, how = self.data.ids[rows], {"seed": self._seed, "epoch": epoch}
        if not self.data.natural:
            images = self._on_device(results)
            plain = [self.views.plain(images, self._dtype) for _ in range(self._plain_views)]
            return plain + self.views(images, ids, **how, dtype=self._dtype)
        arrays = [self._on_device(list(same)) for same in zip(*results, strict=True)]
        plain = [self.views.plain(arrays[-1], self._dtype) for _ in range(self._plain_views)]
        crops = arrays[: self.views.count]
        return plain + self.views.of_crops(crops, ids, **how, dtype=self._dtype)

    def _on_device(self, arrays: list[np.ndarray]) -> Tensor:
        """Return arrays, one after the other, as a tensor of this process's own on the device."""
        n, pinned = sum(len(array) for array in arrays), self._device.type == "cuda"
        host = torch.empty((n, *arrays[0].shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        np.concatenate(arrays, out=host.numpy())
        return host.to(self._device, non_blocking=True)
