"""What a run tells TensorBoard: the same tags for every method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

_NOT_SCALARS = "time/"


class EventWriter:
    """Writes one run's TensorBoard events; the step of a point is its epoch.

    Args:
        folder: where the events go.
        next_epoch: the first epoch that will be written; points at or after it are from a life that was cut off and are
            purged from view.
    """

    def __init__(self, folder: Path, next_epoch: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=next_epoch if next_epoch > 1 else None)

    def scalars(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write one report and make it visible at once."""
        for tag, value in metrics.items():
            if not tag.startswith(_NOT_SCALARS):
                self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()

    def histogram(self, tag: str, epoch: int, values: NDArray[np.float64]) -> None:
        """Write a histogram, such as the spectrum of the embeddings."""
        self._writer.add_histogram(tag, values, epoch)

    def image(self, tag: str, image: NDArray[np.uint8]) -> None:
        """Write an (H, W, C) uint8 image, such as the grid of views."""
        self._writer.add_image(tag, image, 0, dataformats="HWC")

    def text(self, tag: str, text: str) -> None:
        """Write a text, such as the config."""
        self._writer.add_text(tag, text, 0)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()
