"""Reads the encoded images of a source once, keeps them as blocks, and looks at each of them once.

The look decodes every image, so that what cannot be decoded is known before training begins, and so that the
`ray` feed trains on the very images, and subtracts the very statistics, of the `memory` feed.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raysl.data import tasks
from raysl.data.config import DataConfig
from raysl.data.crew import Crew, Handle
from raysl.data.decoded import Decoded, Ids
from raysl.data.encoded import Encoded
from raysl.data.layout import Files, train_files
from raysl.data.readers import numbered, open_parquet, open_source
from raysl.data.sources import DIGITS, stored_channels
from raysl.data.splits import describe_groups, in_selection, in_subset
from raysl.data.tasks import Ints, Places, Seen
from raysl.errors import InputError

KEPT_SHARE = 0.5
"""Of the object store, that encoded images may take; larger sets are read from their files in each epoch."""
_GIB = 2**30
_SMALLEST, _LARGEST = 1 << 20, 256 << 20
_BLOCKS_PER_SLOT = 8
_LOOK = 1024


@dataclass(frozen=True)
class _Piece:
    """Encoded images that are read at once: some row groups of a file, or some files.

    Attributes:
        paths: one Parquet file, or the files of images.
        groups: row groups of the Parquet file.
        count: images.
        size: bytes, as far as that is known without reading.
        first: row within the Parquet file of the first image.
    """

    paths: tuple[Path, ...]
    groups: tuple[int, ...]
    count: int
    size: int
    first: int = 0

    def __add__(self, other: _Piece) -> _Piece:
        paths = self.paths if self.groups else self.paths + other.paths
        groups, count = self.groups + other.groups, self.count + other.count
        return _Piece(paths, groups, count, self.size + other.size, self.first)

    @property
    def names(self) -> list[str]:
        """The paths as sources of tasks."""
        return [str(path) for path in self.paths]


def index_training(config: DataConfig, crew: Crew, shown: int | None = None) -> tuple[Encoded, Decoded]:
    """Read the training images and return (train, selection); the held-out images are decoded.

    Args:
        config: the source.
        crew: who reads and decodes.
        shown: side of the square that an image of a size of its own is shown as where nothing is drawn; None
            refuses such images.

    Raises:
        InputError: the source is missing, empty or unreadable, an image is, or images have sizes of their own
            and there is no `shown`.
    """
    if config.source == DIGITS:
        raise InputError("data.feed = ray: the digits come decoded; use data.feed=auto or memory")
    files = train_files(config)
    source = open_source(files, config)
    pieces = _pieces(files, config, crew.slots)
    if sum(piece.size for piece in pieces) <= KEPT_SHARE * crew.room:
        blocks, places = _keep(pieces, config, crew)
    else:
        blocks, places = _locate(pieces, files, config, crew)
    column = source.labels()
    labels, names = numbered(column, ())
    groups = None if config.group is None else source.groups(config.group)
    rows, notes = np.arange(len(places)), list[str]()
    if config.subset is not None:
        rows = np.flatnonzero(in_subset(_identify(blocks, places, crew), config.subset, labels, groups))
        places = places.part(rows)
        labels = None if labels is None else labels[rows]
        groups = None if groups is None else groups[rows]
        notes.append(f"data.subset: {len(rows)} of {source.count} training images")
    seen = _look(blocks, places, config, crew)

    def where(row: int) -> str:
        return _where(pieces, int(rows[row]))

    for row, reason in seen.broken.items():
        raise InputError(f"{where(row)} is not a readable image ({reason}): repair it or take it out")
    size, natural = _size(seen.shapes, where, shown)
    if natural and config.mean is None:
        squares = _look(blocks, places, config.model_copy(update={"image_size": shown}), crew)
        seen = replace(seen, first=squares.first, second=squares.second)
    notes += [column.note, _note(seen, config, shown if natural else None)]
    held = in_selection(seen.ids, config.selection, groups)
    if groups is not None and config.group is not None:
        notes.append(describe_groups(config.group, groups, held))
    whole = Encoded(
        crew, blocks, places, seen.shapes, seen.first, seen.second, labels, seen.ids, stored_channels(config),
        size, config.image_size, natural, names, tuple(note for note in notes if note),
    )  # fmt: skip
    return whole.part(~held), replace(whole.rows(held), notes=())


def _pieces(files: Files, config: DataConfig, slots: int) -> list[_Piece]:
    """Divide the images, in the order of rows, into pieces of about equal size."""
    units = list(_row_groups(files, config.image_column) if files.parquet else _image_files(files))
    total = sum(unit.size for unit in units)
    enough = min(_LARGEST, max(_SMALLEST, total // (_BLOCKS_PER_SLOT * slots)))
    pieces: list[_Piece] = []
    for unit in units:
        last = pieces[-1] if pieces else None
        joins = last is not None and (not files.parquet or last.paths == unit.paths)
        if last is not None and joins and last.size + unit.size <= enough:
            pieces[-1] = last + unit
        else:
            pieces.append(unit)
    return pieces


def _row_groups(files: Files, column: str) -> Iterator[_Piece]:
    for path in files.paths:
        metadata = open_parquet(path).metadata
        names = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        places = [place for place, name in enumerate(names) if name.split(".")[0] == column]
        first = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            size = sum(group.column(place).total_uncompressed_size for place in places)
            yield _Piece((path,), (number,), group.num_rows, size, first)
            first += group.num_rows


def _image_files(files: Files) -> Iterator[_Piece]:
    return (_Piece((path,), (), 1, path.stat().st_size) for path in files.paths)


def _keep(pieces: list[_Piece], config: DataConfig, crew: Crew) -> tuple[list[Handle], Places]:
    """Have the crew read and keep the images."""
    begun = []
    for piece in pieces:
        if piece.groups:
            begun.append(crew.submit_pair(tasks.read_parquet, piece.names, piece.groups, config.image_column))
        else:
            begun.append(crew.submit_pair(tasks.read_files, piece.names))
    lengths: list[Ints] = [crew.result(length) for _, length in begun]
    starts = [np.cumsum(length) - length for length in lengths]
    source = np.repeat(np.arange(len(pieces)), [len(length) for length in lengths])
    return [block for block, _ in begun], Places(source, np.concatenate(starts), np.concatenate(lengths))


def _locate(
    pieces: list[_Piece], files: Files, config: DataConfig, crew: Crew
) -> tuple[list[Handle], Places]:
    """Find where the images are in their files.

    Raises:
        InputError: they are not there as they are, because the files are compressed.
    """
    paths = [str(path) for path in files.paths]
    if not files.parquet:
        sizes = np.array([path.stat().st_size for path in files.paths], np.int64)
        return list(paths), Places(np.arange(len(paths)), np.zeros_like(sizes), sizes)
    begun = [
        crew.submit(tasks.find_in_parquet, piece.names, piece.groups, config.image_column) for piece in pieces
    ]
    found = [crew.result(handle) for handle in begun]
    for piece, result in zip(pieces, found, strict=True):
        if isinstance(result, str):
            total = sum(piece.size for piece in pieces)
            raise InputError(
                f"{piece.paths[0]}: {result}, so its images cannot be read one by one, and "
                f"{total / _GIB:.1f} GiB are more than {KEPT_SHARE:.0%} of the object store "
                f"({crew.room / _GIB:.1f} GiB): write it without compression, as `raysl data prepare` does, "
                "or give Ray a larger object store"
            )
    source = np.repeat([paths.index(piece.names[0]) for piece in pieces], [piece.count for piece in pieces])
    starts, lengths = (np.concatenate([result[part] for result in found]) for part in (0, 1))
    return list(paths), Places(source, starts, lengths)


def _parts(blocks: list[Handle], places: Places) -> Iterator[tuple[list[Handle], Places]]:
    return (places.part(slice(start, start + _LOOK)).among(blocks) for start in range(0, len(places), _LOOK))


def _identify(blocks: list[Handle], places: Places, crew: Crew) -> Ids:
    """Return the id of every image."""
    begun = [crew.submit(tasks.identify, given, part) for given, part in _parts(blocks, places)]
    return np.concatenate([crew.result(handle) for handle in begun])


def _look(blocks: list[Handle], places: Places, config: DataConfig, crew: Crew) -> Seen:
    """Decode every image once."""
    how = (stored_channels(config), config.image_size, config.mean is None)
    begun = [crew.submit(tasks.look, given, part, *how) for given, part in _parts(blocks, places)]
    return Seen.joined([crew.result(handle) for handle in begun])


def _where(pieces: list[_Piece], row: int) -> str:
    """Return what to call an image in a message."""
    ends = np.cumsum([piece.count for piece in pieces])
    number = bisect.bisect_right(ends.tolist(), row)
    piece, within = pieces[number], row - int(ends[number]) + pieces[number].count
    return f"{piece.paths[0]} row {piece.first + within}" if piece.groups else str(piece.paths[within])


def _size(shapes: Ints, where: Callable[[int], str], shown: int | None) -> tuple[tuple[int, int], bool]:
    """Return the size of all images, or that they are shown in, and whether they have sizes of their own."""
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


def _note(seen: Seen, config: DataConfig, shown: int | None) -> str:
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
