"""Which images are in which batch, for any feed and any number of workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysl.data.draws import key, permutation
from raysl.errors import InputError

_ORDER, _CPU = 0x0DE2, torch.device("cpu")


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


@dataclass(frozen=True)
class Batching:
    """The batches that one worker is to have.

    Global batch k of an epoch holds rows [kB, (k+1)B) of a permutation that depends on (seed, epoch), and
    worker r its r-th equal slice, so that any number of workers sees the same batches. An incomplete last
    batch is left out.

    Attributes:
        size: B, images of a global batch.
        seed: the run's seed.
        epochs: of the run; None if nobody knows.
        rank: this worker's number.
        world_size: how many workers there are.
        device: where views are made.
        dtype: type of the views; the work is done in float32 and cast.
        plain_views: un-augmented views, all the same, to put before the augmented ones.
    """

    size: int
    seed: int
    epochs: int | None = None
    rank: int = 0
    world_size: int = 1
    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32
    plain_views: int = 0

    @property
    def local(self) -> int:
        """Images of a batch that are this worker's."""
        return self.size // self.world_size

    def order(self, epoch: int, images: int) -> NDArray[np.int64]:
        """Return the (N,) order of the training images in an epoch."""
        return permutation(key(_ORDER, self.seed, epoch), images)

    def rows(self, order: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Return this worker's (B / world size,) rows of a global batch."""
        first = step * self.size + self.rank * self.local
        return order[first : first + self.local]

    def check(self, images: int) -> None:
        """Refuse a global batch that the data or the workers cannot make.

        Raises:
            InputError: it is below 1, above the number of images, or not a multiple of the workers.
        """
        workers = self.world_size
        if not 1 <= self.size <= images:
            largest = images // workers * workers
            raise InputError(
                f"batch size {self.size} with {images} training images: choose 1 to {largest}, or more data"
            )
        if self.size % workers:
            below = self.size // workers * workers
            near = [str(value) for value in (below, below + workers) if 0 < value <= images]
            raise InputError(
                f"batch size {self.size} does not divide among {workers} workers: "
                f"use {' or '.join(near) or 'fewer workers'}"
            )
