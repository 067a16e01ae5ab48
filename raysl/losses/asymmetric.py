"""Losses of networks that predict one another: BYOL (arXiv 2006.07733) and SimSiam (arXiv 2011.10566).

Suffixes of names give shapes: v views, n rows of each (the global batch), d embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.losses.rows import full_precision, require_matching_rows, unit_rows


def byol_loss(predictions: Sequence[Tensor], targets: Sequence[Tensor], *, normalize: bool = True) -> Tensor:
    """Predict from every view the target network's embedding of every other.

    With f(a, b) = 2 - 2 mean_n cos(a_n, b_n), or the mean squared error, over V views and P = V (V - 1) / 2
    pairs of them:

        loss = sum_{i<j} [f(q_i, z'_j) + f(q_j, z'_i)] / P

    Runs in float32 under autocast; float64 stays. Constant predictions give a finite value and a gradient
    that is the same for all rows (zero where they point as the targets do); a NaN anywhere makes it NaN.

    Args:
        predictions: predictor outputs q of two or more views, each `(N, D)`.
        targets: the target network's outputs z' of the same views, each `(N, D)`; usually without gradient.
        normalize: compare rows of length one; otherwise as they are, by the mean over N and D.

    Returns:
        A scalar.

    Raises:
        ValueError: fewer than two views, unequally many of each, shapes that differ, or fewer than two rows.

    Source: arXiv 2006.07733, equation 2, which has two views and P = 1; the mean over pairs is that of the
    W-MSE authors' code (arXiv 2007.06346), whose two directions are summed, not averaged.
    """
    with _stacked(predictions, targets) as (q_vnd, t_vnd):
        if normalize:
            return 4 - 4 * _mean_cosine_between_views(q_vnd, t_vnd)
        views = len(q_vnd)
        # Differences, where expanding the squares would cancel as predictions come close to their targets.
        sums = [(q_vnd - t_vnd.roll(shift, dims=0)).square().sum() for shift in range(1, views)]
        return 2 * torch.stack(sums).sum() / ((views - 1) * q_vnd.numel())


def simsiam_loss(predictions: Sequence[Tensor], embeddings: Sequence[Tensor]) -> Tensor:
    """Negative cosine of the prediction from one view and the embedding of another, which is held fixed.

        loss = -mean over ordered pairs i != j of mean_n cos(p_i, stop_gradient(z_j))

    For two views -1/2 [cos(p_1, z_2) + cos(p_2, z_1)]. Runs in float32 under autocast; float64 stays.
    Constant embeddings give a finite value and a gradient that is the same for all rows (zero where the
    predictions point as the embeddings do); a NaN anywhere makes it NaN.

    Args:
        predictions: predictor outputs p of two or more views, each `(N, D)`.
        embeddings: projector outputs z of the same views, each `(N, D)`; they receive no gradient from here.

    Returns:
        A scalar from -1 to 1.

    Raises:
        ValueError: fewer than two views, unequally many of each, shapes that differ, or fewer than two rows.

    Source: arXiv 2011.10566, equation 4; for more than two views the mean over pairs, which is ours.
    """
    with _stacked(predictions, [z_nd.detach() for z_nd in embeddings]) as (p_vnd, z_vnd):
        return -_mean_cosine_between_views(p_vnd, z_vnd)


@contextmanager
def _stacked(a_views: Sequence[Tensor], b_views: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Check the views and give both sides back as `(V, N, D)`, in full precision."""
    if len(a_views) < 2 or len(a_views) != len(b_views):
        raise ValueError(
            f"expected two or more views, as many of each, got {len(a_views)} and {len(b_views)}"
        )
    require_matching_rows(*a_views, *b_views)
    with full_precision(*a_views, *b_views) as tensors:
        yield torch.stack(tensors[: len(a_views)]), torch.stack(tensors[len(a_views) :])


def _mean_cosine_between_views(a_vnd: Tensor, b_vnd: Tensor) -> Tensor:
    """Return the mean over rows and over ordered pairs i != j of views of cos(a_i, b_j)."""
    views, rows, dimension = a_vnd.shape
    a_vnd = unit_rows(a_vnd.reshape(-1, dimension)).view_as(a_vnd)
    b_vnd = unit_rows(b_vnd.reshape(-1, dimension)).view_as(b_vnd)
    # All pairs at once: <sum_i a_i, sum_j b_j>, less those of a view with itself.
    every = (a_vnd.sum(dim=0) * b_vnd.sum(dim=0)).sum() - (a_vnd * b_vnd).sum()
    return every / (rows * views * (views - 1))
