"""W-MSE: the distance between views whose embeddings are whitened (Ermolov et al. 2021, arXiv 2007.06346).

Shapes: N rows of each view (the global batch), D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from raysl.losses.pairs import pair_distance
from raysl.losses.rows import full_precision, require_matching_rows
from raysl.losses.whitening import OnSingular, sub_batches, whiten


class WMSELoss(NamedTuple):
    """The loss and how well it was conditioned."""

    total: Tensor
    condition: Tensor | None
    """Of the worst covariance; see `whitening.Whitened`."""


def w_mse_loss(
    views: Sequence[Tensor],
    *,
    permutations: Tensor,
    w_size: int,
    eps: float = 0.0,
    norm: bool = True,
    on_singular: OnSingular = "error",
) -> WMSELoss:
    """Whiten random sub-batches of each view and compare the views.

    For each permutation, every view is split into the same sub-batches of `w_size` rows X, and

        S = (1 - eps) cov(X) + eps I = L L',    Y = (X - mean) L^-T

    with cov dividing by w_size - 1. The loss is the mean over permutations and pairs of views of
    2 - 2 mean cos(Y_i, Y_j), or of the mean squared difference without `norm`. All covariances are factorised
    at once.

    Runs in float32 under autocast; float64 stays. A singular S (constant embeddings, too many equal rows,
    w_size <= D with eps = 0) raises, or with `on_singular="eigh"` gives a finite value and gradient. A NaN
    anywhere makes the loss NaN.

    Args:
        views: two or more views, each `(N, D)`.
        permutations: `(w_iter, N)`, each row a permutation of the N rows.
        w_size: rows of a sub-batch; must divide N.
        eps: shrinkage of the covariance towards the identity; 0 needs w_size > D.
        norm: compare directions.
        on_singular: `error`, or `eigh` (see `whitening.whiten`).

    Raises:
        ValueError: fewer than two views, shapes that differ, or a w_size that does not divide N.
        SingularCovarianceError: see above.

    Source: arXiv 2007.06346, section 3.1 and equation 5; the authors' `WMSE`, for two and four views.
    """
    if len(views) < 2:
        raise ValueError(f"expected two or more views, got {len(views)}")
    require_matching_rows(*views)
    with full_precision(*views) as tensors:
        x_bnd = sub_batches(torch.stack(tensors), permutations, w_size)
        y_bnd, condition = whiten(x_bnd, kind="cholesky", eps=eps, on_singular=on_singular)
        total = pair_distance(y_bnd.view(len(views), -1, *y_bnd.shape[1:]), norm=norm)
        return WMSELoss(total, condition)
