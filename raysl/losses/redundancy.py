"""Redundancy reduction: Barlow Twins (arXiv 2103.03230) and VICReg (arXiv 2105.04906), on two views.

Suffixes of names give shapes: n rows (the global batch), d embedding size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from raysl.losses.rows import full_precision, require_matching_rows


class BarlowTwinsLoss(NamedTuple):
    """The loss and its parts, each a scalar."""

    total: Tensor
    """diagonal + lam * off_diagonal."""
    diagonal: Tensor
    """sum_i (c_ii - 1)^2."""
    off_diagonal: Tensor
    """sum_{i != j} c_ij^2, without the factor lam."""


class VICRegLoss(NamedTuple):
    """The loss and its parts, each a scalar without its weight."""

    total: Tensor
    """The weighted sum."""
    invariance: Tensor
    """Mean squared error between the views."""
    variance: Tensor
    """How far standard deviations fall short of 1."""
    covariance: Tensor
    """Squared covariances between dimensions, over d."""


def barlow_twins_loss(
    first_nd: Tensor,
    second_nd: Tensor,
    *,
    lam: float = 0.008,
    standardize: bool = True,
    reference_exact: bool = False,
    eps: float = 1e-5,
) -> BarlowTwinsLoss:
    """Make the cross-correlation of two views the identity.

    With s(x) columns of mean 0 and variance 1 over the batch (as batch normalisation makes them):

        c    = s(x)' s(y) / N
        loss = sum_i (c_ii - 1)^2 + lam sum_{i != j} c_ij^2

    Runs in float32 under autocast; float64 stays. A column that is constant in both views has c_ii = 0, adds
    1 and receives no gradient, so constant embeddings give D; a NaN anywhere makes the loss NaN. N < D and
    duplicated rows are ordinary.

    Args:
        first_nd: embeddings of one view, `(N, D)`.
        second_nd: embeddings of the other, `(N, D)`.
        lam: weight lambda of the off-diagonal.
        standardize: take s(x); otherwise the embeddings are taken as standardised already.
        reference_exact: divide by D in place of N, as the CW-RGP authors' copy does.
        eps: added to the variance.

    Returns:
        The loss and its parts.

    Raises:
        ValueError: shapes that differ, or fewer than two rows.

    Source: arXiv 2103.03230, equations 1 and 2; the paper has lambda 0.005, the CW-RGP authors' copy
    (arXiv 2210.03586) 0.008. For N < D / 2 the sum over all c_ij^2 is that of (s(x) s(x)') * (s(y) s(y)'), of
    N x N.
    """
    require_matching_rows(first_nd, second_nd)
    with full_precision(first_nd, second_nd) as (x_nd, y_nd):
        if standardize:
            x_nd, y_nd = _standardized(x_nd, eps), _standardized(y_nd, eps)
        rows, dimension = x_nd.shape
        divisor = dimension if reference_exact else rows
        c_d = (x_nd * y_nd).sum(dim=0) / divisor
        diagonal = (c_d - 1).square().sum()
        off_diagonal = _off_diagonal_squares(x_nd, y_nd) / divisor**2
        return BarlowTwinsLoss(diagonal + lam * off_diagonal, diagonal, off_diagonal)


def vicreg_loss(
    first_nd: Tensor,
    second_nd: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    reference_exact: bool = False,
    eps: float = 1e-4,
) -> VICRegLoss:
    """Views alike, dimensions spread, dimensions uncorrelated.

    With var and C the unbiased variance and covariance over the batch:

        loss = invariance mse(x, y)
             + variance 1/2 sum over views of mean_d relu(1 - sqrt(var_d + eps))
             + covariance sum over views of sum_{i != j} C_ij^2 / D

    Runs in float32 under autocast; float64 stays. Constant embeddings give a finite value, and no gradient
    but that of the first term; a NaN anywhere makes the loss NaN. N < D and duplicated rows are ordinary.

    Args:
        first_nd: embeddings of one view, `(N, D)`.
        second_nd: embeddings of the other, `(N, D)`.
        invariance: weight of the mean squared error.
        variance: weight of the hinge on the standard deviations.
        covariance: weight of the squared covariances.
        reference_exact: do not halve the variance term, as the CW-RGP authors' copy does not.
        eps: added to the variance.

    Returns:
        The loss and its parts.

    Raises:
        ValueError: shapes that differ, or fewer than two rows.

    Source: arXiv 2105.04906, equations 1 to 6; the half is in its authors' code. For N < D / 2 the squared
    covariances are summed through the N x N Gram matrix.
    """
    require_matching_rows(first_nd, second_nd)
    with full_precision(first_nd, second_nd) as (x_nd, y_nd):
        hinges, squares = [], []
        for z_nd in (x_nd, y_nd):
            centred_nd = z_nd - z_nd.mean(dim=0)
            var_d = centred_nd.square().sum(dim=0) / (len(z_nd) - 1)
            hinges.append(torch.relu(1 - torch.sqrt(var_d + eps)).mean())
            squares.append(_off_diagonal_squares(centred_nd, centred_nd) / (len(z_nd) - 1) ** 2)
        alike = (x_nd - y_nd).square().mean()
        spread = (hinges[0] + hinges[1]) * (1.0 if reference_exact else 0.5)
        uncorrelated = (squares[0] + squares[1]) / x_nd.shape[1]
        total = invariance * alike + variance * spread + covariance * uncorrelated
        return VICRegLoss(total, alike, spread, uncorrelated)


def _standardized(x_nd: Tensor, eps: float) -> Tensor:
    centred_nd = x_nd - x_nd.mean(dim=0)
    return centred_nd * torch.rsqrt(centred_nd.square().mean(dim=0) + eps)


def _off_diagonal_squares(x_nd: Tensor, y_nd: Tensor) -> Tensor:
    """Return the sum over i != j of (x'y)_ij^2."""
    rows, dimension = x_nd.shape
    if 2 * rows >= dimension:
        return (x_nd.T @ y_nd).fill_diagonal_(0).square().sum()
    # All (x'y)_ij^2 through N x N. With so few rows those off the diagonal outweigh those on it, and taking
    # the latter away again costs no accuracy.
    x_nn = x_nd @ x_nd.T
    y_nn = x_nn if y_nd is x_nd else y_nd @ y_nd.T
    return (x_nn * y_nn).sum() - (x_nd * y_nd).sum(dim=0).square().sum()
