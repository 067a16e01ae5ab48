"""What every protocol has: options, and what it measures."""

from __future__ import annotations

from dataclasses import dataclass

from raysl.config import Config


class Options(Config):
    """The options of a protocol. All of them are written into the result."""


@dataclass(frozen=True)
class Measured:
    """The scores of one set of features.

    Args:
        metrics: scalars by name; accuracies are in percent.
        repeats: top-1 accuracy of each repetition, where a protocol repeats; the same repetition of two sets
            of features has the same random numbers, so that they can be compared in pairs.
        notes: what a reader of the scores should know, one line each.
    """

    metrics: dict[str, float]
    repeats: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
