"""From encoded bytes to one uint8 array, in threads: PIL releases the interpreter's lock while it decodes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from raysl.data.config import DataConfig
from raysl.data.decoded import Ids, Images, content_id
from raysl.data.location import Location
from raysl.data.unreadable import Unreadable, check_unreadable, describe_unreadable
from raysl.errors import InputError

Record = tuple[bytes | Location, str]
"""The encoded bytes of an image or their file, and what to call it in a message."""

_GIB = 2**30
MAX_PIXELS = 89_478_485
"""Larger images are refused: a small file can claim to be one that fills the memory. PIL warns here, too."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(encoded: bytes, channels: int, size: int | None) -> tuple[Images, bool]:
    """Return one image as (C, H, W) uint8, and whether it had to be resized.

    Args:
        encoded: a whole file of any format that PIL reads.
        channels: 1 for grey, 3 for RGB; alpha is dropped.
        size: an image that is not yet (size, size) is resized (bicubic) to that short side and cut to the
            centre.

    Raises:
        Exception: whatever PIL's decoders raise over bytes they cannot read.
    """
    image = read_image(encoded, channels)
    resized = size is not None and image.size != (size, size)
    if size is not None and resized:
        image = short_side_centre(image, size)
    pixels = np.asarray(image)
    return (pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)), resized


def read_image(encoded: bytes, channels: int, traits: set[str] | None = None) -> Image.Image:
    """Return an image upright, with 8 bits a channel, grey or RGB; of an animation, the first frame.

    Args:
        encoded: a whole file of any format that PIL reads.
        channels: 1 for grey, 3 for RGB.
        traits: what had to be converted to RGB is added here: `greyscale`, `palette`, `cmyk`, `16-bit`,
            `alpha`, `other colours`, `rotated`, `animated`.

    Raises:
        Exception: whatever PIL's decoders raise over bytes they cannot read, and ValueError for more than
            `MAX_PIXELS` or for pixels that are not integers of at most 16 bits.
    """
    if not encoded:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(encoded)) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(
                f"{opened.width}x{opened.height} pixels, more than {MAX_PIXELS / 1e6:.0f} million"
            )
        if traits is not None:
            traits |= _traits(opened)
        opened.load()
        image = _eight_bits(opened)
        # A palette's transparency has to be resolved before the colours are.
        whole = image.convert("RGBA") if "transparency" in image.info and image.mode == "P" else image
        image = whole.convert("L" if channels == 1 else "RGB")
        turn = _UPRIGHT.get(_orientation(opened))
    if turn is None:
        return image
    if traits is not None:
        traits.add("rotated")
    return image.transpose(turn)


def read_file(path: Location) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: it cannot be opened, which says nothing about the image in it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror}): is it still there, and yours to read?"
        ) from None


def why_unreadable(error: Exception) -> str:
    """Return in one line, the same each time, why an image could not be decoded."""
    if isinstance(error, UnidentifiedImageError):  # its message has the address of a buffer
        return "no image, or of an unknown format"
    return " ".join(str(error).split()) or type(error).__name__


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image whose channels have 8 bits: of 16, the upper ones."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; convert them to 8 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"more than 16 bits a channel (mode {image.mode}); convert it to 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """Return how the camera was held, 1 if that is not said; only of an image that is loaded."""
    if not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}.intersection(image.info):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken notes about an image are no reason to refuse it
        return 1


def _traits(image: Image.Image) -> set[str]:
    """Return what will have to be converted of an image that is open but not loaded."""
    mode, found = image.mode, set()
    deep = mode.startswith("I") or any("16" in str(tile.args) for tile in getattr(image, "tile", ()))
    checks = {
        "greyscale": mode in ("1", "L", "LA", "La") or mode.startswith("I"),
        "palette": mode in ("P", "PA"),
        "cmyk": mode == "CMYK",
        "16-bit": deep,
        "alpha": mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        "other colours": mode in ("YCbCr", "LAB", "HSV"),
        "animated": bool(getattr(image, "is_animated", False)),
    }
    found |= {name for name, true in checks.items() if true}
    return found


def short_side_centre(image: Image.Image, size: int) -> Image.Image:
    """Return the centre square of an image whose short side is resized to its side."""
    width, height = image.size
    short = min(width, height)
    width, height = max(size, width * size // short), max(size, height * size // short)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


class Decoder:
    """Decodes the images of a split, in their order, into one array; the unreadable ones are left out.

    Args:
        config: sizes, channels, the memory limit, and how many images may be unreadable.
        channels: 1 or 3.
        count: images to come.
    """

    def __init__(self, config: DataConfig, channels: int, count: int) -> None:
        self._size = config.image_size
        self._limit = config.memory_limit
        self._max_bad = config.max_bad
        self._channels = channels
        self._images: Images | None = None
        self._ids: Ids = np.empty(count, np.uint64)
        self._readable = np.zeros(count, np.bool_)
        self._come = 0
        self._done = 0
        self._resized = 0
        self._count = count
        self.unreadable: list[Unreadable] = []
        self._pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))

    def add(self, records: Iterable[Record]) -> None:
        """Decode the next images.

        Raises:
            InputError: a file cannot be opened, an image has another size than those before it, or they do
                not fit in memory.
        """
        for found in self._pool.map(self._decode, records):
            self._come += 1
            if isinstance(found, Unreadable):
                self.unreadable.append(found)
                continue
            pixels, resized, image_id, where = found
            self._readable[self._come - 1] = True
            images = self._images if self._images is not None else self._allocate(pixels.shape)
            if pixels.shape != images.shape[1:]:
                self._pool.shutdown(cancel_futures=True)
                raise InputError(
                    f"{where} is {pixels.shape[2]}x{pixels.shape[1]} and the images before it are "
                    f"{images.shape[3]}x{images.shape[2]}: set data.image_size to store all as squares"
                )
            images[self._done] = pixels
            self._ids[self._done] = image_id
            self._resized += resized
            self._done += 1

    @property
    def notes(self) -> tuple[str, ...]:
        """A line each on images that are left out, and on those that are not stored as they came."""
        resized = ""
        if self._resized:
            resized = (
                f"{self._resized} of {self._done} images are stored with their short side resized to "
                f"{self._size} pixels and cut to the centre square"
            )
        left_out = describe_unreadable(self.unreadable, self._count)
        return tuple(note for note in (left_out, resized) if note)

    def finish(self) -> tuple[Images, Ids, NDArray[np.bool_]]:
        """Return every image (N, C, H, W), its id (N,), and which of the images that came these are.

        Raises:
            InputError: more images are unreadable than `data.max_bad` allows, or some did not come.
        """
        self._pool.shutdown()
        if self._come != self._count:
            raise InputError(
                f"{self._count} images were announced and {self._come} were found: is the file damaged?"
            )
        check_unreadable(self.unreadable, self._count, self._max_bad)
        if self._images is None:
            raise InputError("there are no images to decode: give a source that has some")
        return self._images[: self._done], self._ids[: self._done], self._readable

    def _decode(self, record: Record) -> tuple[Images, bool, int, str] | Unreadable:
        source, where = record
        encoded = source if isinstance(source, bytes) else read_file(source)
        try:
            return *decode_image(encoded, self._channels, self._size), content_id(encoded), where
        except Exception as error:  # PIL's plugins let any exception through when the bytes are broken
            return Unreadable(where, why_unreadable(error))

    def _allocate(self, shape: tuple[int, ...]) -> Images:
        needed = self._count * int(np.prod(shape))
        free = int(psutil.virtual_memory().available * 0.8)
        allowed = free if self._limit is None else int(self._limit * _GIB)
        if needed > allowed:
            raise InputError(
                f"{self._count} images of {shape[2]}x{shape[1]} need {needed / _GIB:.1f} GiB in memory and "
                f"{allowed / _GIB:.1f} GiB are allowed: lower data.image_size or raise data.memory_limit"
            )
        self._images = np.empty((self._count, *shape), np.uint8)
        return self._images
