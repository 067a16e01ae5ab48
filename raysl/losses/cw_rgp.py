"""CW-RGP: channel whitening with random group partition (Weng et al. 2022, arXiv 2210.03586).

Shapes: v views, N rows of each (the global batch), D embedding size, b sub-batches, n rows of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from raysl.losses.pairs import pair_distance
from raysl.losses.rows import full_precision, require_matching_rows
from raysl.losses.whitening import OnSingular, Whitening, sub_batches, whiten


class CWRGPLoss(NamedTuple):
    """The loss and its parts."""

    total: Tensor
    """distance + cov_weight * covariance."""
    distance: Tensor
    """Between the whitened views."""
    covariance: Tensor | None
    """Summed over views, without its weight; None where that is 0."""
    condition: Tensor | None
    """Of the worst covariance; see `whitening.Whitened`."""


def cw_rgp_loss(
    views: Sequence[Tensor],
    *,
    permutations: Tensor,
    w_size: int,
    channel_permutations: Tensor | None = None,
    whitening: Whitening = "zca",
    axis: int = 0,
    groups: int = 1,
    eps: float = 0.0,
    minus: int = 1,
    recentre: bool = False,
    norm: bool = True,
    on_singular: OnSingular = "eigh",
    cov_weight: float = 0.0,
    cov_size: int | None = None,
) -> CWRGPLoss:
    """Whiten random sub-batches of each view, in random groups of channels, and compare the views.

        loss = mean over permutations and pairs of views of d(whiten(x_i), whiten(x_j))
               + cov_weight * sum over views of covariance_loss(x_i)

    with d and the sub-batches as in `w_mse_loss`, `whitening.whiten` for each sub-batch, view and group, and
    the covariance loss on sub-batches of the raw embeddings, averaged. All covariances are decomposed at
    once.

    Runs in float32 under autocast; float64 stays. Constant embeddings and too few channels in a group give a
    finite value and gradient (or raise, with `on_singular="error"`); a NaN anywhere makes the loss NaN.

    Args:
        views: two or more views, each `(N, D)`.
        permutations: `(w_iter, N)`, each row a permutation of the N rows.
        w_size: rows of a sub-batch; must divide N.
        channel_permutations: `(w_iter, N / w_size, V, D)`, the order of channels in which each sub-batch of
            each view is split into groups; none: as they come.
        whitening: kind of whitening.
        axis: 0 whitens rows over channels, 1 channels over rows.
        groups: equal parts of the channels.
        eps: shrinkage of each covariance towards the identity.
        minus: subtracted from the number of observations in a covariance.
        recentre: axis 0: centre each row over its group.
        norm: compare directions.
        on_singular: `error`, or `eigh` to leave out directions that are not there.
        cov_weight: weight of the covariance term.
        cov_size: rows of a sub-batch in that term; w_size by default.

    Raises:
        ValueError: fewer than two views, shapes that differ, or sizes that do not divide.
        SingularCovarianceError: a singular covariance with `on_singular="error"`.

    Source: arXiv 2210.03586, sections 4.1 and 4.3; the authors' `CW_RGP`. Their ImageNet code takes the
    covariance loss on the rows of one GPU, so that it depends on the number of GPUs; here it has a size.
    """
    if len(views) < 2:
        raise ValueError(f"expected two or more views, got {len(views)}")
    require_matching_rows(*views)
    with full_precision(*views) as tensors:
        x_vnd = torch.stack(tensors)
        x_bnd = sub_batches(x_vnd, permutations, w_size)
        y_bnd, condition = whiten(
            x_bnd,
            kind=whitening,
            axis=axis,
            groups=groups,
            eps=eps,
            minus=minus,
            recentre=recentre,
            channels_bd=_by_sub_batch(channel_permutations, x_bnd, len(views)),
            on_singular=on_singular,
        )
        # Split, not merged: whitened channels lie one after the other in memory, and moving them would cost.
        distance = pair_distance(y_bnd.view(len(views), -1, *y_bnd.shape[1:]), norm=norm)
        if cov_weight == 0:
            return CWRGPLoss(distance, distance, None, condition)
        raw_bnd = x_bnd if cov_size is None else sub_batches(x_vnd, permutations, cov_size)
        covariance = len(views) * covariance_loss(raw_bnd, axis=axis)
        return CWRGPLoss(distance + cov_weight * covariance, distance, covariance, condition)


def covariance_loss(x_bnd: Tensor, *, axis: int = 0) -> Tensor:
    """Return the mean over sub-batches of the off-diagonal squares of their covariance, over its size.

    axis 0: C (n x n) of the rows over the channels, each row centred, dividing by D - 1; sum / n.
    axis 1: C (D x D) of the channels over the rows, each column centred, dividing by n - 1; sum / D.

    Args:
        x_bnd: sub-batches `(B, n, D)`.
        axis: what is correlated: 0 rows, 1 channels.

    Returns:
        A scalar.

    Source: arXiv 2105.04906 (VICReg), equation 4, for axis 1; CW-RGP's ImageNet code for axis 0.
    """
    c_bnd = x_bnd - x_bnd.mean(2 - axis, keepdim=True)
    a_bov = c_bnd if axis == 1 else c_bnd.mT
    observations, variables = a_bov.shape[1:]
    covariance_bvv = a_bov.mT.bmm(a_bov) / (observations - 1)
    beside = 1 - torch.eye(variables, dtype=x_bnd.dtype, device=x_bnd.device)
    return (covariance_bvv * beside).square().sum() / (len(x_bnd) * variables)


def _by_sub_batch(channel_permutations: Tensor | None, x_bnd: Tensor, views: int) -> Tensor | None:
    """Return the channel permutations in the order of `sub_batches`, `(B, D)`."""
    if channel_permutations is None:
        return None
    shape = tuple(channel_permutations.shape)
    if len(shape) != 4 or shape[0] * shape[1] * views != len(x_bnd) or shape[2:] != (views, x_bnd.shape[2]):
        raise ValueError(
            f"expected channel permutations (w_iter, sub-batches, {views}, {x_bnd.shape[2]}), got {shape}"
        )
    return channel_permutations.permute(2, 0, 1, 3).reshape(len(x_bnd), -1)
