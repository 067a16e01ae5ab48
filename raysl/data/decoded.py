"""Images once decoded: arrays that trials and workers share and never write."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from raysl.data.config import DataConfig
from raysl.data.unreadable import Unreadable
from raysl.errors import InputError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Ids = NDArray[np.uint64]


@dataclass(frozen=True)
class Decoded:
    """A split in memory.

    Attributes:
        images: (N, C, H, W) uint8, C-contiguous.
        labels: (N,) int64, or None where nothing is labelled.
        ids: (N,) uint64, a hash of each image's encoded bytes: equal for equal files, whatever their place.
        class_names: the name of each label, where known.
        notes: what the user should hear about this split, one line each.
        unreadable: the images that were left out because they cannot be decoded.
    """

    images: Images
    labels: Labels | None
    ids: Ids
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.images.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    @functools.cached_property
    def statistics(self) -> Normalization:
        """Mean and standard deviation of each channel; counted once, and pickled with the images.

        The sums are of integers, so the result does not depend on the order of images.

        Raises:
            InputError: a channel is constant.
        """
        values = np.arange(256, dtype=np.int64)
        moments = []
        for channel in range(self.channels):
            counts = np.zeros(256, np.int64)
            for start in range(0, len(self), 4096):
                counts += np.bincount(self.images[start : start + 4096, channel].ravel(), minlength=256)
            moments.append((int(counts.sum()), int((counts * values).sum()), int((counts * values**2).sum())))
        return normalization_of(moments)

    def rows(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Decoded:
        """Return a copy of some of the rows."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, images=self.images[index], labels=labels, ids=self.ids[index])


@dataclass(frozen=True)
class Normalization:
    """The mean to subtract from, and the standard deviation to divide, each channel by, on the scale 0-1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def normalization_of(moments: list[tuple[int, int, int]]) -> Normalization:
    """Return mean and standard deviation from each channel's number of values, their sum and their squares'.

    Raises:
        InputError: a channel is constant.
    """
    mean, std = [], []
    for channel, (total, first, second) in enumerate(moments):
        variance = (total * second - first**2) / total**2
        if variance == 0:
            raise InputError(
                f"channel {channel} has the same value in every training image: nothing to learn from"
            )
        mean.append(first / total / 255)
        std.append(variance**0.5 / 255)
    return Normalization(tuple(mean), tuple(std))


def labelled(labels: Labels | None) -> NDArray[np.bool_]:
    """Return which images have a label, (N,) booleans: -1 is none. Where nothing is labelled, N is 0."""
    return np.zeros(0, np.bool_) if labels is None else labels >= 0


def content_id(encoded: bytes) -> int:
    """Return the 64-bit id of an image: BLAKE2b of its encoded bytes."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


class HasStatistics(Protocol):
    """Images that know what normalisation needs of them."""

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""

    @property
    def statistics(self) -> Normalization:
        """Mean and standard deviation of each channel."""


def normalization(config: DataConfig, train: HasStatistics) -> Normalization:
    """Return the configured mean and std, or those of the training images.

    Args:
        config: with `mean` and `std`, or neither.
        train: the images to measure.

    Raises:
        InputError: the number of values is not the number of channels, or a channel is constant.
    """
    if config.mean is not None and config.std is not None:
        if len(config.mean) != train.channels:
            raise InputError(
                f"data.mean has {len(config.mean)} values, but the images have {train.channels} channel(s): "
                "give as many, or leave data.mean and data.std out to compute them"
            )
        return Normalization(config.mean, config.std)
    return train.statistics
