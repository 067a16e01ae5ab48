"""Images of every kind that a scraped folder holds."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from .made import encode, pictures


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def bad() -> dict[str, tuple[bytes, str]]:
    """Return files that must be rejected, and a part of the reason."""
    picture = pictures(1, (40, 40))[0]
    jpeg = encode(picture, "JPEG")
    scan = jpeg.index(b"\xff\xda")
    return {
        "zero.jpg": (b"", "empty"),
        "text.jpg": (b"<html>404</html>", "no image"),
        "cut.jpg": (jpeg[: scan + 40], "truncated"),
        "head.jpg": (jpeg[:30], "no image|Truncated"),
        "cut.png": (encode(picture)[:200], "truncated"),
        "bomb.png": (_png(30_000, 30_000, 8, 2, b""), "pixels"),
        "large.png": (_png(10_000, 9_000, 8, 2, b""), "10000x9000 pixels, more than 89 million"),
        "float.tiff": (saved(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF"), "floating"),
    }


def odd() -> dict[str, tuple[bytes, set[str]]]:
    """Return files that must be converted, and what they are counted as."""
    picture = Image.fromarray(pictures(1, (20, 30))[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(one) for one in pictures(3, (20, 30), seed=1)]
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    deep = b"".join(b"\0" + struct.pack(">9H", *range(0, 63_000, 7_000)) for _ in range(3))
    return {
        "cmyk.jpg": (saved(picture.convert("CMYK"), "JPEG"), {"cmyk"}),
        "sixteen.png": (
            saved(Image.fromarray(np.full((9, 9), 4000, np.uint16)), "PNG"),
            {"16-bit", "greyscale"},
        ),
        "deep.png": (_png(3, 3, 16, 2, deep), {"16-bit"}),
        "palette.png": (saved(palette, "PNG"), {"palette"}),
        "see-through.png": (saved(palette, "PNG", transparency=0), {"palette", "alpha"}),
        "grey.jpg": (saved(picture.convert("L"), "JPEG"), {"greyscale"}),
        "rotated.jpg": (saved(picture, "JPEG", exif=exif), {"rotated"}),
        "animated.webp": (
            saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
            {"animated"},
        ),
        "alpha.png": (saved(picture.convert("RGBA"), "PNG"), {"alpha"}),
        "plain.jpg": (saved(picture, "JPEG"), set()),
    }
