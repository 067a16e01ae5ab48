"""The `ray` feed: images decoded again in each epoch by a crew on CPUs, a bounded number of them ahead.

Its batches are those of the `memory` feed. The crew decodes, and crops images that have sizes of their own;
bytes reach the worker, which makes the views on its device.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysl.data import tasks
from raysl.data.batches import Batch, Batching
from raysl.data.crew import Handle
from raysl.data.encoded import Encoded
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
        batching: which batches. While an epoch ends, the first ones of the next are made already, up to the
            last of `batching.epochs`.

    Raises:
        InputError: the batch is larger than the data, or does not divide among the workers.
    """

    def __init__(self, data: Encoded, views: ViewPipeline, batching: Batching) -> None:
        batching.check(len(data))
        self.data = data
        self.views = views
        self.batching = batching
        arrays = views.count + bool(batching.plain_views) if data.natural else 1
        tasks_of_batch = -(-batching.local // data.images_per_task(arrays))
        self._chunk = -(-batching.local // tasks_of_batch)
        slots = data.crew.slots
        batch_bytes = batching.local * arrays * data.channels * data.size[0] * data.size[1]
        most = int(AHEAD_SHARE * data.crew.room // batch_bytes)
        self.ahead = max(1, min(most, max(2, -(-_TASKS_PER_SLOT * slots // tasks_of_batch))))
        """Batches that are made before they are asked for."""
        threads = min(slots, _MOST_THREADS)
        self._pool = ThreadPoolExecutor(threads, "views") if batching.device.type == "cpu" else None
        self._queue: deque[_Ahead] = deque()
        self._order: tuple[int, Ints] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Complete global batches in an epoch."""
        return len(self.data) // self.batching.size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_step` on: the same ones, wherever it is begun.

        Images of earlier steps are not decoded. What was made ahead is let go where the epoch is left early.
        """
        labels, device = self.data.labels, self.batching.device
        try:
            for step in range(start_step, self.steps_per_epoch):
                batch = self._next(epoch, step)
                views = self._views(batch)
                self._fill(epoch, step + 1)
                own = None if labels is None else torch.from_numpy(labels[batch.rows]).to(device)
                yield Batch(views, own, torch.from_numpy(batch.rows))
        except GeneratorExit:
            self._queue.clear()
            raise

    def _next(self, epoch: int, step: int) -> _Ahead:
        """Return a batch that is being made, and see to it that those after it are."""
        if not self._queue or (self._queue[0].epoch, self._queue[0].step) != (epoch, step):
            self._queue.clear()
        self._fill(epoch, step)
        batch = self._queue.popleft()
        if self._pool is not None:
            # The batch after this one too, so that no thread waits for the last image of this one.
            for coming in (batch, *list(self._queue)[:1]):
                self._begin_views(coming, self._pool)
        return batch

    def _fill(self, epoch: int, step: int) -> None:
        """Begin batches from a position on until enough are under way."""
        if self._queue:
            epoch, step = self._queue[-1].epoch, self._queue[-1].step + 1
        while len(self._queue) < self.ahead:
            if step >= self.steps_per_epoch:
                epoch, step = epoch + 1, 0
            if epoch >= (self.batching.epochs or math.inf):
                return
            self._queue.append(self._begin(epoch, step))
            step += 1

    def _begin(self, epoch: int, step: int) -> _Ahead:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self.batching.order(epoch, len(self.data))
        rows, parts = self.batching.rows(self._order[1], step), []
        for start in range(0, len(rows), self._chunk):
            part = slice(start, start + self._chunk)
            parts.append((part, self._decode(rows[part], epoch)))
        return _Ahead(epoch, step, rows, parts)

    def _decode(self, rows: Ints, epoch: int) -> Handle:
        data = self.data
        if not data.natural:
            return data.submit(tasks.decode, rows, data.channels, data.stored)
        boxes = self.views.boxes(data.shapes[rows], data.ids[rows], seed=self.batching.seed, epoch=epoch)
        crop = self.views.config.crop
        bicubic = crop is not None and crop.interpolation == "bicubic"
        plain = data.size[0] if self.batching.plain_views else None
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
        wanted, ids = self.batching, self.data.ids[rows]
        how: dict[str, Any] = {"seed": wanted.seed, "epoch": epoch, "dtype": wanted.dtype}
        if self.data.natural:
            *crops, whole = [self._on_device(list(same)) for same in zip(*results, strict=True)]
            crops = crops if wanted.plain_views else [*crops, whole]
            views = self.views.of_crops(crops, ids, **how)
        else:
            whole = self._on_device(results)
            views = self.views(whole, ids, **how)
        return [self.views.plain(whole, wanted.dtype) for _ in range(wanted.plain_views)] + views

    def _on_device(self, arrays: list[np.ndarray]) -> Tensor:
        """Return arrays, one after the other, as a tensor of this process's own on the device."""
        n, device = sum(len(array) for array in arrays), self.batching.device
        host = torch.empty((n, *arrays[0].shape[1:]), dtype=torch.uint8, pin_memory=device.type == "cuda")
        np.concatenate(arrays, out=host.numpy())
        return host.to(device, non_blocking=True)
