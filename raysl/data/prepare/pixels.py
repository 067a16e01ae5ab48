"""One image on its way into a shard: is it whole, what is it, and does it have to be made smaller?"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysl.data.decode import read_image
from raysl.data.prepare.origins import Item

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Shape:
    """What to make of an image's size.

    Attributes:
        short: longest short side in pixels: larger images are resized to it, smaller ones only where they
            are then cut. None leaves images as they are.
        crop: side of the centre square to keep, or None.
    """

    short: int | None = None
    crop: int | None = None


@dataclass(frozen=True)
class Treatment:
    """How images are kept.

    Attributes:
        train: size of images to train on.
        evaluation: size of the others.
        quality: of the JPEG files that resized images become.
        interpolation: filter that resizes, always antialiased.
    """

    train: Shape = Shape()
    evaluation: Shape = Shape()
    quality: int = 90
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Kept:
    """An image as it goes into a shard.

    Attributes:
        encoded: its file's bytes, those it came with unless `resized`.
        traits: what decoding converts, see `decode.read_image`.
        resized: whether its size was changed.
        size: width and height of the stored image.
        histogram: (3, 256) how often each value is in each channel of the stored image, as RGB.
    """

    encoded: bytes
    traits: frozenset[str]
    resized: bool
    size: tuple[int, int]
    histogram: NDArray[np.int64]


def keep(item: Item, shape: Shape, treatment: Treatment) -> Kept:
    """Decode an image to the end and return what to store of it.

    Raises:
        Exception: whatever PIL's decoders raise over bytes they cannot read.
    """
    if item.error:
        raise ValueError(item.error)
    traits: set[str] = set()
    encoded = item.encoded if isinstance(item.encoded, bytes) else _png(item.encoded)
    image = read_image(encoded, 3, traits)
    stored = _fitted(image, shape, treatment)
    resized = stored is not image
    if resized:
        encoded = _jpeg(stored, treatment.quality)
        stored = read_image(encoded, 3)
    histogram = np.array(stored.histogram(), np.int64).reshape(3, 256)
    return Kept(encoded, frozenset(traits), resized, stored.size, histogram)


def _fitted(image: Image.Image, shape: Shape, treatment: Treatment) -> Image.Image:
    """Return an image of the asked size; the very same one where nothing is to be done."""
    short = min(image.size)
    target = shape.short
    if target is not None and (short > target or (shape.crop is not None and short < target)):
        width, height = (target if side == short else target * side // short for side in image.size)
        image = image.resize((width, height), _RESAMPLING[treatment.interpolation])
    if shape.crop is not None and image.size != (shape.crop, shape.crop):
        if min(image.size) < shape.crop:
            raise ValueError(f"{image.width}x{image.height} is too small for a crop of {shape.crop}")
        left, top = (round((side - shape.crop) / 2) for side in image.size)
        image = image.crop((left, top, left + shape.crop, top + shape.crop))
    return image


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
