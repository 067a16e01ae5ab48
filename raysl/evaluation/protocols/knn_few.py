"""`knn-few`: the vote of the nearest of a few labelled images, over fixed draws of them."""

from __future__ import annotations

import statistics
from typing import Literal

from pydantic import Field
from torch import Tensor

from raysl.evaluation.protocols import base
from raysl.evaluation.protocols.base import Measured
from raysl.metrics.knn import few_label_knn

COMPARES = True


class Options(base.Options):
    """How many labels there are, how often they are drawn, and how neighbours vote."""

    labels_per_class: int = Field(5, ge=1)
    """Labelled images of each class."""

    draws: int = Field(10, ge=2)
    """Independent draws of the labelled images; every set of features meets the same ones."""

    k: int = Field(1, ge=1)
    """Neighbours that vote."""

    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between features; `cosine` compares their directions."""

    seed: int = Field(0, ge=0)
    """Seed of the draws."""


def measure(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, options: Options) -> Measured:
    """Return mean top-1 accuracy in percent, its standard deviation over the draws, and that of each draw.

    Args:
        train_x: features of the images that may be drawn `(N, F)`.
        train_y: their labels `(N,)`.
        test_x: features to classify `(M, F)`.
        test_y: their true labels `(M,)`.
        options: see `Options`.
    """
    accuracies = few_label_knn(
        train_x,
        train_y,
        test_x,
        test_y,
        labels_per_class=options.labels_per_class,
        draws=options.draws,
        k=options.k,
        seed=options.seed,
        distance=options.metric,
    )
    repeats = tuple(100.0 * accuracy for accuracy in accuracies)
    return Measured({"top1": statistics.mean(repeats), "top1_std": statistics.stdev(repeats)}, repeats)
