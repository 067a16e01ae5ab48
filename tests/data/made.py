"""Small made-up images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysl.data.config import DataConfig, SelectionConfig
from raysl.data.decoded import Decoded
from raysl.data.sources import load_training

Pixels = NDArray[np.uint8]
WriteParquet = Callable[..., Path]
WriteFolder = Callable[..., Path]
MakeDecoded = Callable[..., Decoded]
Encode = Callable[..., list[bytes]]


def pictures(count: int, size: tuple[int, int] = (12, 12), seed: int = 0, channels: int = 3) -> list[Pixels]:
    """Return (H, W, C) images with smooth and sharp parts, all different."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 3, 3, channels), dtype=np.uint8)
    smooth = [
        np.stack(
            [
                np.asarray(Image.fromarray(c[..., k]).resize(size[::-1], Image.Resampling.BICUBIC))
                for k in range(channels)
            ],
            axis=-1,
        )
        for c in coarse
    ]
    noise = random.integers(0, 60, (count, *size, channels), dtype=np.uint8)
    return [
        np.minimum(s.astype(np.int64) + n, 255).astype(np.uint8) for s, n in zip(smooth, noise, strict=True)
    ]


def encode(pixels: Pixels, kind: str = "PNG", mode: str | None = None) -> bytes:
    """Return an encoded image, converted to a PIL mode first."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def whole(config: DataConfig) -> Decoded:
    """Return every training image."""
    return load_training(config.model_copy(update={"selection": SelectionConfig(fraction=0)}))[0]


def pixels_of(encoded: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).transpose(2, 0, 1)
