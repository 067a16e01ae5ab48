"""k-nearest-neighbour accuracy on frozen features, with all labels or with a few.

Shapes: N labelled rows, M queries, F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.errors import InputError

Distance = Literal["euclidean", "cosine"]

_MAX_DISTANCES = 1 << 23
"""Distances held at once: 32 MiB in float32."""


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def knn_predict(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    *,
    k: int = 5,
    distance: Distance = "euclidean",
    temperature: float | None = None,
) -> Tensor:
    """Predict each query's label by the vote of its k nearest labelled rows.

    Equal votes go to the smallest label. Queries are taken in chunks, so that memory does not grow with M.

    Args:
        train_x: labelled features `(N, F)`, float32 or float64.
        train_y: their labels `(N,)`, any integers.
        test_x: queries `(M, F)`, on the same device.
        k: neighbours.
        distance: "euclidean", or "cosine" on rows of length one.
        temperature: None counts every neighbour once; a number weights a neighbour by
            exp(cosine / temperature), for cosine only.

    Returns:
        Labels `(M,)`, in the dtype of `train_y`.

    Raises:
        InputError: k above N, a temperature that does not fit, or features that are not finite.

    Source: the protocol `knn` of W-MSE's authors (unweighted, Euclidean, k 5); the weighted vote of Wu et al.
    2018, arXiv 1805.01978, section 3.4.
    """
    if not 1 <= k <= len(train_x):
        raise InputError(f"k-NN: k must lie between 1 and the {len(train_x)} labelled images, got {k}")
    if temperature is not None and (distance != "cosine" or not temperature > 0):
        raise InputError(
            f"k-NN: a temperature must be positive and needs distance=cosine, got {temperature}, {distance}"
        )
    classes, targets = torch.unique(train_y, return_inverse=True)
    votes = []
    for scores in _similarities(_features(train_x), _features(test_x), distance):
        nearest = scores.topk(k, dim=1)
        weights = (
            torch.ones_like(nearest.values)
            if temperature is None
            else ((nearest.values - 1) / temperature).exp()
        )
        tally = scores.new_zeros(len(scores), len(classes))
        votes.append(tally.scatter_add_(1, targets[nearest.indices], weights).argmax(dim=1))
    return classes[torch.cat(votes)] if votes else train_y[:0]


def knn_accuracy(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    k: int = 5,
    distance: Distance = "euclidean",
    temperature: float | None = None,
) -> float:
    """Return the fraction of queries, in [0, 1], whose label `knn_predict` finds.

    Args:
        train_x: labelled features `(N, F)`.
        train_y: their labels `(N,)`.
        test_x: queries `(M, F)`.
        test_y: true labels of the queries `(M,)`.
        k: neighbours.
        distance: see `knn_predict`.
        temperature: see `knn_predict`.

    Raises:
        InputError: as `knn_predict`, or no queries.
    """
    if len(test_x) == 0:
        raise InputError("k-NN: there are no images to classify; give a test or selection split")
    predicted = knn_predict(train_x, train_y, test_x, k=k, distance=distance, temperature=temperature)
    return float((predicted == test_y).double().mean())


def few_label_draws(
    labels: Tensor, labels_per_class: int = 5, draws: int = 10, seed: int = 0
) -> list[Tensor]:
    """Draw small labelled subsets that depend on the labels and the seed only.

    Different feature sets of the same images so meet the same draws and can be compared in pairs.

    Args:
        labels: labels of the pool `(N,)`.
        labels_per_class: rows drawn of each class, without replacement.
        draws: independent subsets.
        seed: of the draws.

    Returns:
        For each draw, indices into the pool, ordered by class.

    Raises:
        InputError: a class has too few rows.
    """
    labels = labels.cpu()
    members = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    smallest = min(members, key=len)
    if len(smallest) < labels_per_class:
        raise InputError(
            f"few-label k-NN: class {int(labels[smallest[0]])} has {len(smallest)} images, "
            f"{labels_per_class} are needed; lower labels_per_class"
        )
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:labels_per_class]]

    return [torch.cat([draw(rows) for rows in members]) for _ in range(draws)]


def few_label_knn(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    labels_per_class: int = 5,
    draws: int = 10,
    k: int = 1,
    seed: int = 0,
    distance: Distance = "euclidean",
) -> list[float]:
    """Return k-NN accuracies with a few labelled images, one for each draw of `few_label_draws`.

    Args:
        train_x: features of the pool `(N, F)`.
        train_y: their labels `(N,)`.
        test_x: queries `(M, F)`.
        test_y: true labels of the queries `(M,)`.
        labels_per_class: labelled images of each class.
        draws: independent labelled subsets.
        k: neighbours; more than one loses accuracy while a class has few rows.
        seed: of the draws.
        distance: see `knn_predict`.

    Raises:
        InputError: as `few_label_draws` and `knn_accuracy`.
    """
    accuracies = []
    for rows in few_label_draws(train_y, labels_per_class, draws, seed):
        rows = rows.to(train_x.device)
        accuracies.append(knn_accuracy(train_x[rows], train_y[rows], test_x, test_y, k=k, distance=distance))
    return accuracies


def paired_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of a - b with Student's t interval over the pairs.

    Args:
        a: values, such as accuracies over draws.
        b: values of the same draws, in the same order.
        confidence: coverage.

    Raises:
        ValueError: unequal lengths, or fewer than two pairs.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a paired interval needs two or more pairs, got {len(a)} and {len(b)} values")
    from scipy.stats import t

    differences = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    mean = float(differences.mean())
    half = float(differences.std()) / math.sqrt(len(a)) * float(t.ppf(0.5 + confidence / 2, len(a) - 1))
    return Interval(mean, mean - half, mean + half)


def _features(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise InputError("k-NN: the features hold NaN or infinity; the network has diverged")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _similarities(train: Tensor, test: Tensor, distance: Distance) -> Iterator[Tensor]:
    """Yield scores `(chunk, N)` that grow with nearness."""
    if distance == "cosine":
        train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
        offset = train.new_zeros(())
    else:
        # |q - t|^2 = |q|^2 - 2 (q't - |t|^2 / 2): the ranking needs the bracket only. Distances do not change
        # with the origin, and from the mean of the rows the squares cancel least.
        mean = train.mean(dim=0)
        train, test = train - mean, test - mean
        offset = train.square().sum(dim=1) / 2
    chunk = max(1, _MAX_DISTANCES // len(train))
    for start in range(0, len(test), chunk):
        yield test[start : start + chunk] @ train.T - offset
