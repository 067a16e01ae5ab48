"""What a run tells TensorBoard: the same tags for every method.

Events are written by the caller's thread. torch's SummaryWriter has one of its own, which on a full disk dies
with a trace that nobody can catch, and whose queue a killed process takes with it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from raysl.errors import not_written

_NOT_SCALARS = "time/"


class EventWriter:
    """Writes one run's TensorBoard events; the step of a point is its epoch.

    Args:
        folder: where the events go, in a file of this writer's own.
        next_epoch: the first epoch that will be written; points at or after it are from a life that was cut
            off and are purged from view. 1 purges nothing.
    """

    def __init__(self, folder: Path, next_epoch: int) -> None:
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._records = RecordWriter(open(folder / name, "xb"))  # noqa: SIM115 - closed in `close`
        except OSError as error:
            raise not_written(folder, error) from None
        self._folder = folder
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if next_epoch > 1:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=next_epoch, session_log=start))

    def scalars(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write one report and make it visible at once.

        Raises:
            RayslError: it cannot be written (a full disk, say).
        """
        for tag, value in metrics.items():
            if not tag.startswith(_NOT_SCALARS):
                self._add(epoch, summary.scalar(tag, value))  # type: ignore[no-untyped-call]
        self._flush()

    def histogram(self, tag: str, epoch: int, values: NDArray[np.float64]) -> None:
        """Write a histogram, such as the spectrum of the embeddings."""
        self._add(epoch, summary.histogram(tag, values, "auto"))  # type: ignore[no-untyped-call]

    def image(self, tag: str, image: NDArray[np.uint8]) -> None:
        """Write an (H, W, C) uint8 image, such as the grid of views."""
        self._add(0, summary.image(tag, image, dataformats="HWC"))  # type: ignore[no-untyped-call]

    def text(self, tag: str, text: str) -> None:
        """Write a text, such as the config."""
        self._add(0, summary.text(tag, text))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Flush and close."""
        try:
            self._records.close()
        except OSError as error:
            raise not_written(self._folder, error) from None

    def _add(self, epoch: int, written: Any) -> None:
        self._write(Event(wall_time=time.time(), step=epoch, summary=written))

    def _write(self, event: Event) -> None:
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise not_written(self._folder, error) from None

    def _flush(self) -> None:
        try:
            self._records.flush()
        except OSError as error:
            raise not_written(self._folder, error) from None
