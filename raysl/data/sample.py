"""A few images of a source, drawn at random without reading the rest of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from raysl.data.config import DataConfig
from raysl.data.decode import decode_image, why_unreadable
from raysl.data.decoded import Images, content_id
from raysl.data.draws import key, permutation
from raysl.data.layout import Files, train_files
from raysl.data.location import read_all
from raysl.data.readers import check_image_column, open_all, reading, records_of
from raysl.data.sources import DIGITS, load_training
from raysl.data.unreadable import Unreadable, check_unreadable

_SAMPLE = 0x5A3B1E
# Row groups read at most: a random row costs the whole group that it is in.
_GROUPS = 8


@dataclass(frozen=True)
class Picture:
    """An image of a size of its own.

    Attributes:
        pixels: (C, H, W) uint8.
        id: hash of its encoded bytes.
    """

    pixels: Images
    id: int


def sample_pictures(config: DataConfig, count: int, seed: int = 0) -> list[Picture]:
    """Return random training images, decoded as the `memory` feed stores them; unreadable ones are left out.

    Args:
        config: the source; `image_size` and `channels` are applied.
        count: images wanted; all there are if fewer.
        seed: another number draws others.

    Raises:
        InputError: the source cannot be read, or none of the drawn images.
    """
    if config.source == DIGITS:
        digits = load_training(config)[0]
        rows = permutation(key(_SAMPLE, seed), len(digits))[:count]
        return [Picture(digits.images[row], int(digits.ids[row])) for row in rows]
    return [picture for _, picture in sample_readable(config, count, seed)]


def sample_readable(config: DataConfig, count: int, seed: int = 0) -> Iterator[tuple[bytes, Picture]]:
    """Yield what `sample_encoded` draws, as far as it can be read, with its pixels; raises likewise."""
    readable, unreadable = 0, list[Unreadable]()
    for encoded, where in sample_encoded(config, count, seed):
        try:
            pixels, _ = decode_image(encoded, config.channels or 3, config.image_size)
        except Exception as error:  # PIL's plugins let any exception through when the bytes are broken
            unreadable.append(Unreadable(where, why_unreadable(error)))
            continue
        readable += 1
        yield encoded, Picture(pixels, content_id(encoded))
    if not readable:
        check_unreadable(unreadable, len(unreadable), config.max_bad)


def sample_encoded(config: DataConfig, count: int, seed: int = 0) -> list[tuple[bytes, str]]:
    """Return the files of random training images and what to call each; `digits` has none.

    Args:
        config: the source.
        count: images wanted; all there are if fewer.
        seed: another number draws others.

    Raises:
        InputError: the source cannot be read.
    """
    if config.source == DIGITS:
        return []
    files = train_files(config)
    if not files.parquet:
        chosen = [files.paths[row] for row in permutation(key(_SAMPLE, seed), len(files.paths))[:count]]
        return list(zip(read_all(chosen), map(str, chosen), strict=True))
    return list(_from_parquet(files, config, count, seed))


def _from_parquet(files: Files, config: DataConfig, count: int, seed: int) -> Iterator[tuple[bytes, str]]:
    """Yield about equally many rows of each of some random row groups."""
    readers = open_all(files)
    for path, reader in zip(files.paths, readers, strict=True):
        check_image_column(path, reader.schema_arrow, config.image_column)
    groups = [(file, group) for file, reader in enumerate(readers) for group in range(reader.num_row_groups)]
    left = count
    for place, number in enumerate(permutation(key(_SAMPLE, seed), len(groups))):
        file, group = groups[number]
        path, sizes = files.paths[file], _group_sizes(readers[file])
        share = -(-left // max(1, min(_GROUPS, len(groups)) - place))
        rows = np.sort(permutation(key(_SAMPLE, seed, int(number)), sizes[group])[:share])
        with reading(path):
            column = readers[file].read_row_group(group, [config.image_column]).column(0)
        records = [record for chunk in column.chunks for record in records_of(chunk, path, 0)]
        first = sum(sizes[:group])
        yield from ((records[row][0], f"{path} row {first + row}") for row in rows)
        left -= len(rows)
        if left <= 0:
            return


def _group_sizes(reader: pq.ParquetFile) -> list[int]:
    return [reader.metadata.row_group(group).num_rows for group in range(reader.num_row_groups)]
