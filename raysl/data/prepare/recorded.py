"""What preparing has seen of each image, kept beside the shards, so that a run need not look at them again.

    recorded/train-00000-of-00004.arrow     a row for each image, in the order of the shard's rows

It counts only as long as nothing has changed: the shard has the size and the footer that the manifest says,
the record its checksum, and images are decoded by the libraries that decoded them then.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
from numpy.typing import NDArray
from PIL import features

from raysl.data.config import DataConfig
from raysl.data.layout import MANIFEST, Files
from raysl.data.location import Location, concurrently
from raysl.data.tasks import Seen
from raysl.errors import InputError

FOLDER = "recorded"
IMAGE_COLUMN = "image"
_CHANNELS = 3
_TAIL = 8
"""Bytes at a Parquet file's end: the length of its footer, and `PAR1`."""
_LIBRARIES = ("libjpeg_turbo", "jpg", "webp", "libtiff", "zlib", "jpg_2000")
_SUMS = pa.list_(pa.int64(), _CHANNELS)
_SCHEMA = pa.schema(
    [("id", pa.uint64()), ("height", pa.int32()), ("width", pa.int32()), ("first", _SUMS), ("second", _SUMS)]
)


@dataclass(frozen=True)
class Facts:
    """What is recorded of an image.

    Attributes:
        id: hash of its encoded bytes.
        height: in pixels, as decoded.
        width: in pixels.
        first: (3,) sum of each channel's values (0-255).
        second: (3,) sum of their squares.
    """

    id: int
    height: int
    width: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]


def record_of(shard: str) -> str:
    """Return the name of a shard's record."""
    return f"{FOLDER}/{shard.removesuffix('.parquet')}.arrow"


def packed(facts: Sequence[Facts]) -> bytes:
    """Return the file that says what is recorded of the images of a shard."""
    columns = []
    for field in _SCHEMA:
        values = [getattr(one, field.name) for one in facts]
        # numpy makes floating-point numbers of ids unless it is told what they are.
        plain = np.array(values, np.uint64 if field.name == "id" else np.int64)
        if field.type == _SUMS:
            columns.append(pa.FixedSizeListArray.from_arrays(plain.ravel(), type=field.type))
        else:
            columns.append(pa.array(plain).cast(field.type))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
    return bytes(sink.getvalue())


@functools.cache
def decoder() -> str:
    """Return what decodes images here: with other libraries a pixel may differ by one."""
    versions = (f"{name} {features.version(name)}" for name in _LIBRARIES)
    return f"Pillow {PIL.__version__}, {', '.join(versions)}"


def footer_of(tail: bytes | memoryview) -> str:
    """Return the checksum of a Parquet file's footer, which says where everything is, from its last bytes."""
    length = int.from_bytes(tail[-_TAIL:-4], "little") + _TAIL
    return hashlib.sha256(tail[-length:]).hexdigest()


def recall(files: Files, config: DataConfig, channels: int) -> Seen | None:
    """Return what preparing has seen of all images of a split, in order.

    Args:
        files: of the split.
        config: how images are stored.
        channels: 1 or 3.

    Returns:
        What `tasks.look` would return; None where there is no record, where it is of other files, libraries
        or columns, or where images are not stored as they are.
    """
    if not files.parquet or config.image_column != IMAGE_COLUMN or channels != _CHANNELS:
        return None
    shards = {folder: _shards(folder) for folder in {path.parent for path in files.paths}}
    known = [(path, shards[path.parent].get(path.name)) for path in files.paths]
    tables = [table for table in concurrently(_read, known, bool(files.root.uri)) if table is not None]
    if len(tables) < len(known):
        return None
    seen = _seen(pa.concat_tables(tables))
    size = config.image_size
    if size is not None and (seen.shapes != size).any():
        return None
    if config.mean is not None:
        return Seen(seen.ids, seen.shapes, seen.first[:, :0], seen.second[:, :0], seen.resized, {})
    return seen


def _shards(folder: Location) -> dict[str, dict[str, Any]]:
    """Return what the manifest of a folder says of each shard; nothing where it has none."""
    try:
        splits = json.loads((folder / MANIFEST).read_bytes())["splits"]
        return {shard["name"]: shard for split in splits.values() for shard in split["shards"]}
    except (OSError, InputError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # no prepared set, or not one of ours


def _read(known: tuple[Location, dict[str, Any] | None]) -> pa.Table | None:
    """Return the record of a shard, if it is of that very file."""
    path, shard = known
    if shard is None or shard.get("decoder") != decoder():
        return None
    try:
        if _size(path) != shard["bytes"]:
            return None
        length = int.from_bytes(path.read_range(shard["bytes"] - _TAIL, 4), "little") + _TAIL
        footer = path.read_range(max(0, shard["bytes"] - length), length)
        record = (path.parent / record_of(path.name)).read_bytes()
    except (OSError, InputError):
        return None  # who reads the images says what is wrong with the file
    checksums = footer_of(footer), hashlib.sha256(record).hexdigest()
    if checksums != (shard.get("footer"), shard.get("recorded")):
        return None
    table = pa.ipc.open_file(record).read_all()
    return table if len(table) == shard["rows"] and table.schema == _SCHEMA else None


def _size(path: Location) -> int:
    """Return a file's bytes as they are now."""
    return int(path.system.get_file_info(path.path).size or 0)


def _seen(table: pa.Table) -> Seen:
    columns = {name: table.column(name).combine_chunks() for name in _SCHEMA.names}
    first, second = (
        columns[name].flatten().to_numpy().reshape(-1, _CHANNELS) for name in ("first", "second")
    )
    shapes = np.stack([columns[name].to_numpy() for name in ("height", "width")], axis=1)
    ids = columns["id"].to_numpy().astype(np.uint64)
    return Seen(ids, shapes.astype(np.int64), first, second, np.zeros(len(ids), np.bool_), {})
