"""Images that cannot be decoded: how many may be left out, and what is said of them.

What an image's bytes are is the same wherever it is read, so that both feeds leave out the same ones. A file
that cannot be opened at all is another matter (the disk or the network is to blame): it stops a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raysl.errors import InputError

_NAMED = 3


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be decoded.

    Attributes:
        where: what to call it.
        reason: why not.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where} ({self.reason})"


def check_unreadable(unreadable: Sequence[Unreadable], images: int, share: float) -> None:
    """Refuse images of which too many cannot be decoded.

    Args:
        unreadable: those, in the order of rows.
        images: how many there are in all.
        share: of them, that may be unreadable (`data.max_bad`).

    Raises:
        InputError: more are, or all; the message has their number and the first of them.
    """
    count = len(unreadable)
    # A hair more, because 0.29 of 100 is less than 29 in floating point.
    allowed = int(share * images + 1e-9)
    if count == images > 0:
        raise InputError(
            f"none of the {images:,} images can be read: {_first(unreadable)}; are they encoded images, and "
            "is data.image_column their column?"
        )
    if count > allowed:
        enough = math.ceil(count / images * 1000) / 1000
        raise InputError(
            f"{count:,} of {images:,} images cannot be read, and data.max_bad = {share:g} allows "
            f"{allowed:,}: {_first(unreadable)}; repair them, take them out (raysl data prepare lists them "
            f"all), or set data.max_bad={enough:g}"
        )


def describe_unreadable(unreadable: Sequence[Unreadable], images: int) -> str:
    """Return one line on the images that are left out, or nothing."""
    if not unreadable:
        return ""
    one = len(unreadable) == 1
    return (
        f"{len(unreadable):,} of {images:,} images cannot be read and {'is' if one else 'are'} left out: "
        f"{_first(unreadable)}"
    )


def _first(unreadable: Sequence[Unreadable]) -> str:
    more = len(unreadable) - _NAMED
    return ", ".join(map(str, unreadable[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")
