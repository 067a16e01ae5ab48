"""Reads the encoded images of a source once, keeps them as blocks, and looks at each of them once.

The look decodes every image, so that what cannot be decoded is known before training begins; those of a
prepared set have been looked at.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from raysl.data import tasks
from raysl.data.config import DataConfig
from raysl.data.crew import Crew, Handle
from raysl.data.decoded import Decoded
from raysl.data.encoded import Encoded
from raysl.data.layout import Files, train_files
from raysl.data.location import Location
from raysl.data.looking import common_size, describe_sizes, identify, look
from raysl.data.prepare.recorded import recall
from raysl.data.readers import FolderSource, ParquetSource, numbered, open_source
from raysl.data.sources import DIGITS, stored_channels
from raysl.data.splits import describe_groups, in_selection, in_subset
from raysl.data.tasks import Ints, Places
from raysl.data.unreadable import Unreadable, check_unreadable, describe_unreadable
from raysl.errors import InputError

KEPT_SHARE = 0.5
"""Of the object store, that encoded images may take; larger sets are read from their files in each epoch."""
_GIB = 2**30
_SMALLEST, _LARGEST = 1 << 20, 256 << 20
_BLOCKS_PER_SLOT = 8


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

    paths: tuple[Location, ...]
    groups: tuple[int, ...]
    count: int
    size: int
    first: int = 0

    def __add__(self, other: _Piece) -> _Piece:
        paths = self.paths if self.groups else self.paths + other.paths
        groups, count = self.groups + other.groups, self.count + other.count
        return _Piece(paths, groups, count, self.size + other.size, self.first)


def index_training(config: DataConfig, crew: Crew, shown: int | None = None) -> tuple[Encoded, Decoded]:
    """Read the training images and return (train, selection); the held-out images are decoded.

    Args:
        config: the source.
        crew: who reads and decodes.
        shown: side of the square that an image of a size of its own is shown as where nothing is drawn; None
            refuses such images.

    Raises:
        InputError: the source is missing, empty or unreadable, more images are than `max_bad` allows, or they
            have sizes of their own and there is no `shown`.
    """
    if config.source == DIGITS:
        raise InputError("data.feed = ray: the digits come decoded; use data.feed=auto or memory")
    files = train_files(config)
    source = open_source(files, config)
    pieces = _pieces(files, source, config, crew.slots)
    known = recall(files, config, stored_channels(config))
    if sum(piece.size for piece in pieces) <= KEPT_SHARE * crew.room:
        blocks, places = _keep(pieces, config, crew)
        # As the bytes are here, it costs little to be sure that they are those of the record.
        if known is not None and not np.array_equal(known.ids, identify(blocks, places, crew)):
            known = None
    else:
        blocks, places = _locate(pieces, files, config, crew)
    column = source.labels()
    labels, names = numbered(column, ())
    groups = None if config.group is None else source.groups(config.group)
    rows, notes = np.arange(len(places)), list[str]()
    if config.subset is not None:
        ids = identify(blocks, places, crew) if known is None else known.ids
        rows = np.flatnonzero(in_subset(ids, config.subset, labels, groups))
        places, known = places.part(rows), None if known is None else known.part(rows)
        labels = None if labels is None else labels[rows]
        groups = None if groups is None else groups[rows]
        notes.append(f"data.subset: {len(rows)} of {source.count} training images")
    seen = look(blocks, places, config, crew) if known is None else known
    unreadable = tuple(
        Unreadable(_where(pieces, int(rows[row])), reason) for row, reason in sorted(seen.broken.items())
    )
    check_unreadable(unreadable, len(rows), config.max_bad)
    notes += [column.note, describe_unreadable(unreadable, len(rows))]
    if unreadable:
        kept = np.setdiff1d(np.arange(len(rows)), list(seen.broken))
        rows, places, seen = rows[kept], places.part(kept), seen.part(kept)
        labels = None if labels is None else labels[kept]
        groups = None if groups is None else groups[kept]

    def where(row: int) -> str:
        return _where(pieces, int(rows[row]))

    size, natural = common_size(seen.shapes, where, shown)
    if natural and config.mean is None:
        squares = look(blocks, places, config.model_copy(update={"image_size": shown}), crew)
        seen = replace(seen, first=squares.first, second=squares.second)
    notes.append(describe_sizes(seen, config, shown if natural else None))
    held = in_selection(seen.ids, config.selection, groups)
    if groups is not None and config.group is not None:
        notes.append(describe_groups(config.group, groups, held))
    whole = Encoded(
        crew, blocks, places, seen.shapes, seen.first, seen.second, labels, seen.ids, stored_channels(config),
        size, config.image_size, natural, names, tuple(note for note in notes if note), unreadable,
    )  # fmt: skip
    return whole.part(~held), replace(whole.rows(held), notes=())


def _pieces(
    files: Files, source: ParquetSource | FolderSource, config: DataConfig, slots: int
) -> list[_Piece]:
    """Divide the images, in the order of rows, into pieces of about equal size."""
    if isinstance(source, ParquetSource):
        units = list(_row_groups(files, source, config.image_column))
    else:
        units = [_Piece((file,), (), 1, file.size or 0) for file in files.paths]
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


def _row_groups(files: Files, source: ParquetSource, column: str) -> Iterator[_Piece]:
    for path, metadata in zip(files.paths, source.metadata(), strict=True):
        names = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        places = [place for place, name in enumerate(names) if name.split(".")[0] == column]
        first = 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            size = sum(group.column(place).total_uncompressed_size for place in places)
            yield _Piece((path,), (number,), group.num_rows, size, first)
            first += group.num_rows


def _keep(pieces: list[_Piece], config: DataConfig, crew: Crew) -> tuple[list[Handle], Places]:
    """Have the crew read and keep the images."""
    begun = []
    for piece in pieces:
        if piece.groups:
            begun.append(crew.submit_pair(tasks.read_parquet, piece.paths, piece.groups, config.image_column))
        else:
            begun.append(crew.submit_pair(tasks.read_files, piece.paths))
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
    if not files.parquet:
        sizes = np.array([file.size or 0 for file in files.paths], np.int64)
        return list(files.paths), Places(np.arange(len(sizes)), np.zeros_like(sizes), sizes)
    begun = [
        crew.submit(tasks.find_in_parquet, piece.paths, piece.groups, config.image_column) for piece in pieces
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
    number = {file: place for place, file in enumerate(files.paths)}
    source = np.repeat([number[piece.paths[0]] for piece in pieces], [piece.count for piece in pieces])
    starts, lengths = (np.concatenate([result[part] for result in found]) for part in (0, 1))
    return list(files.paths), Places(source, starts, lengths)


def _where(pieces: list[_Piece], row: int) -> str:
    """Return what to call an image in a message."""
    ends = np.cumsum([piece.count for piece in pieces])
    number = bisect.bisect_right(ends.tolist(), row)
    piece, within = pieces[number], row - int(ends[number]) + pieces[number].count
    return f"{piece.paths[0]} row {piece.first + within}" if piece.groups else str(piece.paths[within])
