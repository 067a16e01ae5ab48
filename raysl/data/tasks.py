"""What a crew does for the `ray` feed: read, look at, decode and crop encoded images.

Nothing here imports torch, because each process of a crew would pay its seconds and its memory.

A source is where encoded bytes are: a (bytes,) uint8 array, or the file of which they are a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from raysl.data.decode import decode_image, read_file, read_image, short_side_centre, why_unreadable
from raysl.data.decoded import Ids, Images, content_id
from raysl.data.location import Location, concurrently
from raysl.data.readers import open_parquet, reading
from raysl.errors import InputError

Source = NDArray[np.uint8] | Location
Ints = NDArray[np.int64]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Places:
    """Where some encoded images are among the sources of a task.

    Attributes:
        source: (N,) which source.
        start: (N,) first byte.
        length: (N,) bytes.
    """

    source: Ints
    start: Ints
    length: Ints

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.source)

    def part(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Places:
        """Return some of the rows."""
        return Places(self.source[rows], self.start[rows], self.length[rows])

    def among(self, blocks: Sequence[Any]) -> tuple[list[Any], Places]:
        """Return only those blocks that hold an image, and the places among them."""
        used, source = np.unique(self.source, return_inverse=True)
        return [blocks[block] for block in used], replace(self, source=source.astype(np.int64))

    def read(self, sources: Sequence[Source]) -> Iterator[bytes]:
        """Yield each image's encoded bytes."""

        def read(place: tuple[int, int, int]) -> bytes:
            number, start, length = place
            source = sources[number]
            if isinstance(source, Location):
                return source.read_range(start, length)
            return source[start : start + length].tobytes()

        places = zip(self.source.tolist(), self.start.tolist(), self.length.tolist(), strict=True)
        return concurrently(read, places, _far(sources))


@dataclass(frozen=True)
class Seen:
    """What was seen of some images.

    Attributes:
        ids: (N,) hashes of the encoded bytes.
        shapes: (N, 2) height and width as decoded; 0 where that failed.
        first: (N, C) sum of the values of each channel, once stored; no columns where not asked for.
        second: (N, C) sum of their squares.
        resized: (N,) whether storing resized the image.
        broken: why each row that cannot be decoded could not.
    """

    ids: Ids
    shapes: Ints
    first: Ints
    second: Ints
    resized: NDArray[np.bool_]
    broken: dict[int, str]

    @classmethod
    def nothing(cls, n: int, channels: int, measure: bool) -> Seen:
        """Return what is seen of so many images before one is looked at."""
        sums = (n, channels if measure else 0)
        return cls(
            ids=np.zeros(n, np.uint64),
            shapes=np.zeros((n, 2), np.int64),
            first=np.zeros(sums, np.int64),
            second=np.zeros(sums, np.int64),
            resized=np.zeros(n, np.bool_),
            broken={},
        )

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Return what was seen of all images, in order."""
        arrays = ("ids", "shapes", "first", "second", "resized")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        firsts = np.cumsum([0, *(len(part.ids) for part in parts)])
        broken = [
            (int(first) + row, why)
            for first, part in zip(firsts, parts, strict=False)
            for row, why in part.broken.items()
        ]
        return cls(**joined, broken=dict(broken))

    def part(self, rows: Ints) -> Seen:
        """Return what was seen of some of the images that could be decoded."""
        return Seen(
            self.ids[rows], self.shapes[rows], self.first[rows], self.second[rows], self.resized[rows], {}
        )


def read_parquet(
    sources: Sequence[Source], groups: Sequence[int], column: str
) -> tuple[NDArray[np.uint8], Ints]:
    """Return the bytes of the images of some row groups, one after the other, and the length of each."""
    file = _file(sources[0])
    with reading(file):
        return _joined(_encoded(open_parquet(file).read_row_groups(list(groups), [column])))


def read_files(sources: Sequence[Source]) -> tuple[NDArray[np.uint8], Ints]:
    """Return the bytes of some files, one after the other, and the length of each."""
    return _joined(list(concurrently(read_file, map(_file, sources), _far(sources))))


def find_in_parquet(sources: Sequence[Source], groups: Sequence[int], column: str) -> tuple[Ints, Ints] | str:
    """Return where in the file the bytes of the images of some row groups begin, and the length of each.

    Where a column is written without compression and dictionary, each image is in the file as it is. Such
    files are read image by image; of others a whole row group would have to be read for each. The answer is
    then the reason.
    """
    file = _file(sources[0])
    starts, lengths = [], []
    with reading(file):
        reader = open_parquet(file)
        names = [reader.metadata.schema.column(place).path for place in range(reader.metadata.num_columns)]
        place = next(p for p, name in enumerate(names) if name in (column, f"{column}.bytes"))
        for group in groups:
            chunk = reader.metadata.row_group(group).column(place)
            if chunk.compression != "UNCOMPRESSED":
                return f"column '{column}' is compressed ({chunk.compression.lower()})"
            if chunk.has_dictionary_page:
                return f"column '{column}' is written as a dictionary"
            raw, at = file.read_range(chunk.data_page_offset, chunk.total_compressed_size), 0
            for encoded in _encoded(reader.read_row_group(group, [column])):
                at = raw.find(encoded, at)
                if at < 0:
                    return f"column '{column}' is written in an encoding of its own"
                starts.append(chunk.data_page_offset + at)
                lengths.append(len(encoded))
                at += len(encoded)
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def identify(sources: Sequence[Source], places: Places) -> Ids:
    """Return the (N,) ids of images."""
    return np.array([content_id(encoded) for encoded in places.read(sources)], np.uint64)


def look(sources: Sequence[Source], places: Places, channels: int, size: int | None, measure: bool) -> Seen:
    """Decode images to see whether they can be, and what they are; the pixels are let go.

    Args:
        sources: where bytes are.
        places: which.
        channels: 1 for grey, 3 for RGB.
        size: side of the stored square; None stores images as they are.
        measure: whether the sums of values are wanted.
    """
    seen = Seen.nothing(len(places), channels, measure)
    for row, encoded in enumerate(places.read(sources)):
        seen.ids[row] = content_id(encoded)
        try:
            pixels, seen.resized[row] = decode_image(encoded, channels, size)
        except Exception as error:  # PIL's plugins let any exception through when the bytes are broken
            seen.broken[row] = why_unreadable(error)
            continue
        seen.shapes[row] = pixels.shape[1:]
        if measure:
            # Integers below 2^53, so that these sums are exact in any order.
            values = pixels.reshape(channels, -1).astype(np.float64)
            seen.first[row] = values.sum(axis=1)
            seen.second[row] = [value @ value for value in values]
    return seen


def decode(sources: Sequence[Source], places: Places, channels: int, size: int | None) -> Images:
    """Return images as they are stored, which have one size: (N, C, H, W)."""
    decoded = _made(sources, places, lambda encoded: decode_image(encoded, channels, size)[0])
    first = next(decoded)
    out = np.empty((len(places), *first.shape), np.uint8)
    out[0] = first
    for row, pixels in enumerate(decoded, 1):
        out[row] = pixels
    return out


def decode_crops(
    sources: Sequence[Source],
    places: Places,
    channels: int,
    boxes: list[Ints],
    sizes: list[tuple[int, int]],
    bicubic: bool,
    plain: int | None,
) -> list[Images]:
    """Decode images of sizes of their own and return crops of them.

    Args:
        sources: where bytes are.
        places: which.
        channels: 1 for grey, 3 for RGB.
        boxes: for each view (N, 4): top, left, height, width.
        sizes: for each view the height and width its crops are resized to, antialiased, by PIL.
        bicubic: the filter; else bilinear.
        plain: also return each image with its short side resized to this, cut to the centre square.

    Returns:
        For each view (N, C, *size), then the plain squares if asked for.
    """
    out = [np.empty((len(places), channels, *size), np.uint8) for size in sizes]
    squares = np.empty((len(places), channels, plain, plain), np.uint8) if plain else None
    kind = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    for row, image in enumerate(_made(sources, places, lambda encoded: read_image(encoded, channels))):
        for crops, box, (height, width) in zip(out, boxes, sizes, strict=True):
            top, left, tall, wide = (int(value) for value in box[row])
            # Cut first: with a box, PIL's filter would look beyond its edges.
            cut = image.crop((left, top, left + wide, top + tall))
            crops[row] = _planes(cut.resize((width, height), kind), channels)
        if squares is not None and plain is not None:
            squares[row] = _planes(short_side_centre(image, plain), channels)
    return out if squares is None else [*out, squares]


def _made(sources: Sequence[Source], places: Places, function: Callable[[bytes], Made]) -> Iterator[Made]:
    """Yield what a function makes of images that could be decoded when they were looked at.

    Raises:
        InputError: one has changed since.
    """
    encoded = places.read(sources)
    for source, start in zip(places.source, places.start, strict=True):
        try:
            made = function(next(encoded))
        except InputError:
            raise
        except Exception as error:  # PIL's plugins let any exception through when the bytes are broken
            file = sources[source]
            where = f"{file}, byte {start}," if start else str(file)
            raise InputError(
                f"{where if isinstance(file, Location) else 'an image in memory'} could be read when this "
                f"began, and no longer ({why_unreadable(error)}): put the file back as it was, or begin anew"
            ) from error
        yield made


def _file(source: Source) -> Location:
    if not isinstance(source, Location):
        raise TypeError(f"expected a file, not {type(source).__name__}")
    return source


def _far(sources: Sequence[Source]) -> bool:
    """Return whether bytes come from another machine."""
    return any(isinstance(source, Location) and source.uri for source in sources)


def _encoded(table: pa.Table) -> list[bytes]:
    """Return the bytes of a column of images, binary or a struct of bytes; none where it is null."""
    chunks = table.column(0).chunks
    values = [chunk.field("bytes") if pa.types.is_struct(chunk.type) else chunk for chunk in chunks]
    return [encoded or b"" for chunk in values for encoded in chunk.to_pylist()]


def _joined(encoded: list[bytes]) -> tuple[NDArray[np.uint8], Ints]:
    return np.frombuffer(b"".join(encoded), np.uint8), np.array([len(e) for e in encoded], np.int64)


def _planes(image: Image.Image, channels: int) -> Images:
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
