"""Images kept encoded: what the `ray` feed has in place of one array of pixels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysl.data import tasks
from raysl.data.crew import Crew, Handle
from raysl.data.decoded import Decoded, Ids, Labels, Normalization, normalization_of
from raysl.data.tasks import Ints, Places
from raysl.data.unreadable import Unreadable

_CHUNK_BYTES = 4 << 20
"""Decoded bytes of a task: enough to outweigh the milliseconds that a task costs."""
_MOST_IMAGES = 512


@dataclass(frozen=True)
class Encoded:
    """A split whose images are decoded again each time they are needed.

    Attributes:
        crew: who decodes.
        blocks: where encoded bytes are: handles of arrays that the crew keeps, or paths.
        places: of each image among the blocks.
        shapes: (N, 2) height and width as decoded.
        first: (N, C) sum of the values of each channel, at `size`; no columns where mean and std are given.
        second: (N, C) sum of their squares.
        labels: (N,) int64, or None where nothing is labelled.
        ids: (N,) uint64, a hash of each image's encoded bytes.
        channels: 1 for grey, 3 for RGB.
        size: height and width of a decoded image. Where `natural`, of the square that is its un-augmented
            view.
        stored: the side that images are resized to as they are decoded; None decodes them as they are.
        natural: images have sizes of their own, so that only crops of them come in batches.
        class_names: the name of each label, where known.
        notes: what the user should hear about this split, one line each.
        unreadable: the images that were left out because they cannot be decoded.
    """

    crew: Crew
    blocks: Sequence[Handle]
    places: Places
    shapes: Ints
    first: Ints
    second: Ints
    labels: Labels | None
    ids: Ids
    channels: int
    size: tuple[int, int]
    stored: int | None
    natural: bool = False
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @functools.cached_property
    def statistics(self) -> Normalization:
        """Mean and standard deviation of each channel: of integer sums, so equal to those of `Decoded`.

        Raises:
            InputError: a channel is constant.
        """
        total = len(self) * self.size[0] * self.size[1]
        sums = [[int(value) for value in moment.sum(axis=0)] for moment in (self.first, self.second)]
        return normalization_of([(total, first, second) for first, second in zip(*sums, strict=True)])

    def part(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Encoded:
        """Return some of the rows, still encoded."""
        places = self.places.part(index)
        labels = None if self.labels is None else self.labels[index]
        return replace(
            self, places=places, shapes=self.shapes[index], first=self.first[index],
            second=self.second[index], labels=labels, ids=self.ids[index],
        )  # fmt: skip

    def rows(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Decoded:
        """Return a decoded copy of some of the rows; where `natural`, of their un-augmented views."""
        rows = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        out = np.empty((len(rows), self.channels, *self.size), np.uint8)
        side = self.size[0] if self.natural else self.stored
        step, ahead, running = self.images_per_task(1), 2 * self.crew.slots, list[tuple[int, Handle]]()
        for start in range(0, len(rows) + step * ahead, step):
            if start < len(rows):
                handle = self.submit(tasks.decode, rows[start : start + step], self.channels, side)
                running.append((start, handle))
            if running and (len(running) > ahead or start >= len(rows)):
                first, handle = running.pop(0)
                pixels = self.crew.result(handle)
                out[first : first + len(pixels)] = pixels
        labels = None if self.labels is None else self.labels[rows]
        return Decoded(out, labels, self.ids[rows], self.class_names, self.notes)

    def images_per_task(self, views: int) -> int:
        """Return how many images a task should decode where each becomes so many arrays of `size`."""
        each = views * self.channels * self.size[0] * self.size[1]
        return min(_MOST_IMAGES, max(8, _CHUNK_BYTES // each))

    def submit(self, function: Any, rows: Ints, *args: Any) -> Handle:
        """Begin a function of `tasks` over the encoded bytes of some rows; it gets only their blocks."""
        blocks, places = self.places.part(rows).among(self.blocks)
        return self.crew.submit(function, blocks, places, *args)


Training = Decoded | Encoded
"""What is trained on: both have ids, labels, class names, notes, channels, a size and statistics, and `rows`
returns some of their images decoded."""
