"""Scikit-learn's 1,797 handwritten digits: 8x8, grey, no download."""

from __future__ import annotations

from typing import Literal

import numpy as np

from raysl.data.decoded import Decoded, Images, content_id
from raysl.data.draws import mix

_TEST_SHARE = 0.2


def load_digits(split: Literal["train", "test"], channels: int) -> Decoded:
    """Return the digits as uint8 (0-16 becomes 0-255), in a fixed split that keeps the shares of the classes.

    Of each class, the fifth whose ids hash lowest is the test split: 1,438 images to train on and 359 to
    test.

    Args:
        split: which part.
        channels: 1 for grey, 3 to repeat it as RGB.
    """
    from sklearn.datasets import load_digits as load  # imported here: it takes a second

    raw = load()
    pixels: Images = np.rint(raw.images[:, None] * (255 / 16)).astype(np.uint8)
    labels = raw.target.astype(np.int64)
    ids = np.array([content_id(image.tobytes()) for image in pixels], np.uint64)
    rank = mix(ids)
    test = np.zeros(len(ids), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        lowest = members[np.argsort(rank[members], kind="stable")]
        test[lowest[: round(_TEST_SHARE * len(members))]] = True
    images = np.repeat(pixels, channels, axis=1)
    names = tuple(str(name) for name in raw.target_names)
    return Decoded(images, labels, ids, names).rows(test if split == "test" else ~test)
