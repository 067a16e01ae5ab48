"""A crew that counts, and what the tests of feeds compare."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from raysl.data import feeds
from raysl.data.batches import Batch, Batching
from raysl.data.config import DataConfig, ViewsConfig
from raysl.data.crew import Function, Handle, ThreadCrew
from raysl.data.decoded import Decoded, normalization
from raysl.data.encoded import Encoded
from raysl.data.feeds import build_feed
from raysl.data.indexing import index_training
from raysl.data.sources import load_training
from raysl.data.views import ViewPipeline

VIEWS = ViewsConfig(preset="w_mse")


class Crew(ThreadCrew):
    """Counts what it is asked for and how many results nobody has come for.

    Args:
        room: bytes that it says it has.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__(2)
        self.free = room
        self.images: dict[str, int] = {}
        self.waiting: set[Handle] = set()
        self.most_waiting = 0
        self._lock = threading.Lock()

    @property
    def room(self) -> int:
        return self.free

    def submit(self, function: Function, sources: Sequence[Any], *args: Any) -> Handle:
        handle = super().submit(function, sources, *args)
        with self._lock:
            name = function.__name__
            self.images[name] = self.images.get(name, 0) + (len(args[0]) if args else 0)
            if name.startswith("decode"):
                self.waiting.add(handle)
                self.most_waiting = max(self.most_waiting, len(self.waiting))
        return handle

    def result(self, handle: Handle) -> Any:
        result = super().result(handle)
        with self._lock:
            self.waiting.discard(handle)
        return result


def both(config: DataConfig, crew: ThreadCrew | None = None) -> tuple[Decoded, Encoded]:
    train, selection = load_training(config)
    encoded, held_out = index_training(config, crew or Crew())
    for one, other in ((train, encoded), (selection, held_out)):
        assert np.array_equal(one.ids, other.ids)
        assert one.class_names == other.class_names
        assert (one.labels is None) == (other.labels is None)
        if one.labels is not None and other.labels is not None:
            assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(selection.images, held_out.images)
    assert train.notes == encoded.notes
    assert selection.notes == held_out.notes == ()
    return train, encoded


def feed(data: Decoded | Encoded, batch_size: int = 16, epochs: int = 9, **options: Any) -> feeds.Feed:
    pipeline = ViewPipeline(VIEWS, normalization(DataConfig(), data), data.size)
    return build_feed(data, pipeline, Batching(batch_size, 3, epochs, **options))


def assert_same(one: Iterator[Batch] | list[Batch], other: Iterator[Batch] | list[Batch]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert a.labels is not None
        assert b.labels is not None
        assert torch.equal(a.labels, b.labels)
        assert len(a.views) == len(b.views)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
