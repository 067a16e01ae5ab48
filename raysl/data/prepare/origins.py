"""Where the images of a split come from, and how to read any of them.

An origin is small and can be sent to another process: images are read there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysl.data.draws import key, permutation
from raysl.data.location import Location, concurrently
from raysl.data.readers import open_parquet, reading

Rows = NDArray[np.int64]
_DEAL = 0xDEA1


@dataclass(frozen=True)
class Item:
    """An image as it comes.

    Attributes:
        encoded: its file's bytes; or its pixels (H, W) or (H, W, 3), uint8, where it has no file.
        path: what to call it.
        columns: what else the source says of it.
        error: why it could not be read, or nothing.
    """

    encoded: bytes | NDArray[np.uint8]
    path: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class Origin(ABC):
    """Images in an order of their own.

    Attributes:
        ordered: whether neighbours are of one class, so that shards should be dealt from all of them.
    """

    ordered = True

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def size(self) -> int:
        """Return about how many bytes they take."""

    @abstractmethod
    def take(self, rows: Rows) -> Origin:
        """Return the origin of some of the rows."""

    @abstractmethod
    def read(self) -> Iterator[Item]:
        """Yield the images in order."""

    def columns(self) -> pa.Schema:
        """Return the types of what else is said of each image."""
        return pa.schema([])

    def mark(self, size: int) -> str:
        """Return a text that changes when the images do, as far as that shows without reading them.

        Args:
            size: what `size()` has returned.
        """
        return f"{type(self).__name__} {len(self)} {size}"


@dataclass(frozen=True)
class FileOrigin(Origin):
    """Image files below a folder; `sizes` are the bytes of each."""

    root: Location
    names: tuple[str, ...]
    sizes: Rows

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def size(self) -> int:
        """Return the bytes of all files."""
        return int(self.sizes.sum())

    def mark(self, size: int) -> str:
        """Return a text that changes with the names of the files and the sum of their sizes."""
        return f"{super().mark(size)} {self.names}"

    def take(self, rows: Rows) -> FileOrigin:
        """Return the origin of some of the files."""
        return replace(self, names=tuple(self.names[row] for row in rows), sizes=self.sizes[rows])

    def read(self) -> Iterator[Item]:
        """Yield the files in order."""
        files = [self.root / name for name in self.names]
        return concurrently(_item_of_file, zip(files, self.names, strict=True), bool(self.root.uri))


@dataclass(frozen=True)
class ArrayOrigin(Origin):
    """Pixels in memory, (N, H, W) or (N, H, W, 3) uint8."""

    pixels: NDArray[np.uint8]
    prefix: str
    numbers: Rows

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.numbers)

    def size(self) -> int:
        """Return the bytes of the pixels."""
        return int(self.pixels.nbytes)

    def take(self, rows: Rows) -> ArrayOrigin:
        """Return the origin of some of the images, with a copy of their pixels."""
        return replace(self, pixels=self.pixels[rows], numbers=self.numbers[rows])

    def read(self) -> Iterator[Item]:
        """Yield the pixels in order."""
        for pixels, number in zip(self.pixels, self.numbers, strict=True):
            yield Item(pixels, f"{self.prefix}/{number:06d}")


@dataclass(frozen=True)
class BinaryOrigin(Origin):
    """Pixels in a file without a header, image after image as (3, W, H) uint8: STL-10's way."""

    file: Path
    side: int
    rows: Rows
    ordered = False

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def size(self) -> int:
        """Return the bytes of the pixels."""
        return len(self.rows) * 3 * self.side**2

    def take(self, rows: Rows) -> BinaryOrigin:
        """Return the origin of some of the images."""
        return replace(self, rows=self.rows[rows])

    def read(self) -> Iterator[Item]:
        """Yield the pixels in order."""
        pixels = np.memmap(self.file, np.uint8, "r").reshape(-1, 3, self.side, self.side)
        for row in self.rows:
            yield Item(np.ascontiguousarray(pixels[row].transpose(2, 1, 0)), f"{self.file.name}/{row:06d}")


@dataclass(frozen=True)
class ParquetOrigin(Origin):
    """Rows of Parquet files; `counts` are the rows of each file."""

    root: Location
    files: tuple[Location, ...]
    counts: tuple[int, ...]
    image: str
    leave: tuple[str, ...]
    rows: Rows
    ordered = False

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def size(self) -> int:
        """Return the bytes of the files, in proportion to the rows that are taken."""
        total = sum(file.size or 0 for file in self.files)
        return round(total * len(self.rows) / max(1, sum(self.counts)))

    def mark(self, size: int) -> str:
        """Return a text that changes with the names of the files, the sum of their sizes and the rows."""
        names = [file.name for file in self.files]
        return f"{super().mark(size)} {names} {self.counts} {self.image} {hash_of(self.rows)}"

    def take(self, rows: Rows) -> ParquetOrigin:
        """Return the origin of some of the rows."""
        return replace(self, rows=self.rows[rows])

    def columns(self) -> pa.Schema:
        """Return the columns beside the image and the label."""
        schema = open_parquet(self.files[0]).schema_arrow
        return pa.schema([f for f in schema if f.name not in (self.image, *self.leave)])

    def read(self) -> Iterator[Item]:
        """Yield the rows in order; only the row groups that hold one of them are read."""
        kept = [field.name for field in self.columns()]
        first = 0
        for file, count in zip(self.files, self.counts, strict=True):
            wanted = self.rows[(self.rows >= first) & (self.rows < first + count)] - first
            first += count
            if len(wanted):
                yield from self._of_file(file, wanted, kept)

    def _of_file(self, file: Location, wanted: Rows, kept: list[str]) -> Iterator[Item]:
        reader, start = open_parquet(file), 0
        name = file.name if file == self.root else file.below(self.root)
        for group in range(reader.num_row_groups):
            rows = reader.metadata.row_group(group).num_rows
            inside = wanted[(wanted >= start) & (wanted < start + rows)]
            if len(inside):
                with reading(file):
                    table = reader.read_row_group(group, [self.image, *kept]).take(pa.array(inside - start))
                for row, values in zip(inside, table.to_pylist(), strict=True):
                    yield _item(values, self.image, kept, f"{name} row {row}")
            start += rows


def hash_of(rows: Rows) -> str:
    """Return a short text that differs for other rows."""
    return hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()


def _item_of_file(place: tuple[Location, str]) -> Item:
    """Read an image; a file of another machine that is refused is not called a bad image."""
    file, name = place
    try:
        return Item(file.read_bytes(), name)
    except OSError as error:
        return Item(b"", name, error=f"not read: {error.strerror}")


def _item(values: dict[str, Any], image: str, kept: Sequence[str], place: str) -> Item:
    value, path = values[image], place
    if isinstance(value, dict):
        value, path = value["bytes"], value.get("path") or place
    columns = {name: values[name] for name in kept}
    return Item(value or b"", path, columns, "" if value is not None else "no bytes")


@dataclass(frozen=True)
class SplitOrigin:
    """A split: its images and what they show.

    Attributes:
        images: N images.
        labels: (N,) class numbers, -1 for none; or N lists of them, where an image has several; or None.
        names: the name of each class, where known.
    """

    images: Origin
    labels: Rows | list[list[int]] | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def take(self, rows: Rows) -> SplitOrigin:
        """Return some of the rows."""
        labels = self.labels
        if labels is not None:
            labels = [labels[row] for row in rows] if isinstance(labels, list) else labels[rows]
        return replace(self, images=self.images.take(rows), labels=labels)

    def dealt(self) -> Rows:
        """Return the order of rows in which shards take them.

        Where neighbours are of one class, the order is random, the same each time, so that every shard holds
        every class; else it is the source's.
        """
        rows = np.arange(len(self), dtype=np.int64)
        return permutation(key(_DEAL), len(self)) if self.images.ordered else rows
