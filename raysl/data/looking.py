"""One look at every encoded image before training begins: what it is, and whether it can be decoded at all.

So the `ray` feed trains on the very images, and subtracts the very statistics, of the `memory` feed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from raysl.data import tasks
from raysl.data.config import DataConfig
from raysl.data.crew import Crew, CrewDied, Handle
from raysl.data.decoded import Ids
from raysl.data.sources import stored_channels
from raysl.data.tasks import Ints, Places, Seen
from raysl.errors import InputError

_LOOK = 1024


def identify(blocks: list[Handle], places: Places, crew: Crew) -> Ids:
    """Return the id of every image; nothing is decoded."""
    begun = [crew.submit(tasks.identify, given, part) for given, part in _parts(blocks, places)]
    return np.concatenate([crew.result(handle) for handle in begun])


def look(blocks: list[Handle], places: Places, config: DataConfig, crew: Crew) -> Seen:
    """Decode every image once."""
    how = (stored_channels(config), config.image_size, config.mean is None)
    parts = list(_parts(blocks, places))
    begun = [crew.submit(tasks.look, given, part, *how) for given, part in parts]
    seen: list[Seen] = []
    for (given, part), handle in zip(parts, begun, strict=True):
        try:
            seen.append(crew.result(handle))
        except CrewDied:
            # Of one of these images, or beside one of others: only alone it is known which.
            rows = (part.part(slice(row, row + 1)) for row in range(len(part)))
            seen += [_look_alone(given, row, how, crew) for row in rows]
    return Seen.joined(seen)


def _look_alone(given: list[Handle], place: Places, how: tuple[int, int | None, bool], crew: Crew) -> Seen:
    try:
        seen: Seen = crew.result(crew.submit(tasks.look, given, place, *how))
    except CrewDied:
        channels, _, measure = how
        seen = Seen.nothing(1, channels, measure)
        seen.broken[0] = "the process that decodes it dies"
    return seen


def _parts(blocks: list[Handle], places: Places) -> Iterator[tuple[list[Handle], Places]]:
    return (places.part(slice(start, start + _LOOK)).among(blocks) for start in range(0, len(places), _LOOK))


def common_size(shapes: Ints, where: Callable[[int], str], shown: int | None) -> tuple[tuple[int, int], bool]:
    """Return the size of all images, or that they are shown in, and whether they have sizes of their own.

    Args:
        shapes: (N, 2) height and width.
        where: what to call an image.
        shown: side of the square that an image of a size of its own is shown as; None refuses such images.

    Raises:
        InputError: they have, and there is no `shown`.
    """
    other = np.flatnonzero((shapes != shapes[0]).any(axis=1))
    height, width = (int(side) for side in shapes[0])
    if not len(other):
        return (height, width), False
    if shown is None:
        row = int(other[0])
        raise InputError(
            f"{where(row)} is {shapes[row, 1]}x{shapes[row, 0]} and the images before it are "
            f"{width}x{height}: set data.image_size to store all as squares, or use views whose order begins "
            "with the crop, and views.size, to crop each from its own size"
        )
    return (shown, shown), True


def describe_sizes(seen: Seen, config: DataConfig, shown: int | None) -> str:
    """Return one line on images that are not used as they came, or nothing."""
    if shown is not None:
        return (
            "images are cropped from sizes of their own; un-augmented, their short side is resized to "
            f"{shown} pixels and they are cut to the centre square"
        )
    if not seen.resized.any():
        return ""
    return (
        f"{int(seen.resized.sum())} of {len(seen.ids)} images are stored with their short side resized to "
        f"{config.image_size} pixels and cut to the centre square"
    )
