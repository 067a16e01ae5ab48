"""From encoded bytes to one uint8 array, in threads: PIL releases the interpreter's lock while it decodes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from raysl.data.config import DataConfig
from raysl.data.decoded import Ids, Images, content_id
from raysl.errors import InputError

Record = tuple[bytes | Path, str]
"""The encoded bytes of an image or their file, and what to call it in a message."""

_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_GIB = 2**30


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
    with Image.open(io.BytesIO(encoded)) as opened:
        if opened.mode in _DEEP_MODES:
            raise ValueError(f"more than 8 bits a channel (mode {opened.mode}); convert it to 8 bits")
        # A palette's transparency has to be resolved before the colours are.
        whole = opened.convert("RGBA") if "transparency" in opened.info and opened.mode == "P" else opened
        image = whole.convert("L" if channels == 1 else "RGB")
    resized = size is not None and image.size != (size, size)
    if size is not None and resized:
        image = _short_side_centre(image, size)
    pixels = np.asarray(image)
    return (pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)), resized


def _short_side_centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    width, height = max(size, width * size // short), max(size, height * size // short)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


class Decoder:
    """Decodes the images of a split, in their order, into one array of known length.

    Args:
        config: sizes, channels and the memory limit.
        channels: 1 or 3.
        count: images to come.
    """

    def __init__(self, config: DataConfig, channels: int, count: int) -> None:
        self._size = config.image_size
        self._limit = config.memory_limit
        self._channels = channels
        self._images: Images | None = None
        self._ids: Ids = np.empty(count, np.uint64)
        self._done = 0
        self._resized = 0
        self._count = count
        self._pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))

    def add(self, records: Iterable[Record]) -> None:
        """Decode the next images.

        Raises:
            InputError: an image cannot be read, has another size than those before it, or they do not fit in
                memory.
        """
        for pixels, resized, image_id, where in self._pool.map(self._decode, records):
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
    def note(self) -> str:
        """One line on images that are not stored as they came, or nothing."""
        if not self._resized:
            return ""
        return (
            f"{self._resized} of {self._count} images are stored with their short side resized to "
            f"{self._size} pixels and cut to the centre square"
        )

    def finish(self) -> tuple[Images, Ids]:
        """Return every image (N, C, H, W) and id (N,)."""
        self._pool.shutdown()
        if self._images is None or self._done != self._count:
            raise InputError(
                f"{self._count} images were announced and {self._done} were found: is the file damaged?"
            )
        return self._images, self._ids

    def _decode(self, record: Record) -> tuple[Images, bool, int, str]:
        source, where = record
        try:
            encoded = source.read_bytes() if isinstance(source, Path) else source
            return *decode_image(encoded, self._channels, self._size), content_id(encoded), where
        except Exception as error:  # PIL's plugins let any exception through when the bytes are broken
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{where} is not a readable image ({reason}): repair it or take it out"
            ) from error

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
