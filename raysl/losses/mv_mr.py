"""MV-MR: distance correlation between embeddings and fixed representations of the image (Kinakh et al.).

Suffixes of names give shapes: n rows (the global batch), d size of an embedding or a representation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.rows import full_precision, require_matching_rows, unit_rows

FLOOR = 1e-4
"""Least squared distance, which that of a row to itself also gets."""


class MVMRLoss(NamedTuple):
    """The loss and its parts, each a scalar without its weight."""

    total: Tensor
    """What to minimise."""
    mse: Tensor
    """Mean squared difference of the two embeddings."""
    std: Tensor
    """Mean shortfall of the columns' standard deviation below the margin, summed over both embeddings."""
    views: Tensor
    """1 - dCor of the two embeddings."""
    representations: Mapping[str, Tensor]
    """dCor of the view's embedding and each representation, by name."""
    at_floor: Tensor
    """Share of the pairs of different rows of the view's embedding at the least distance: 1 is collapse."""


def mv_mr_loss(
    z_o_nd: Tensor,
    z_nd: Tensor,
    representations: Iterable[tuple[str, Tensor]],
    *,
    margin: float = 1.0,
    scale: float = 1 / 32,
    mse_weight: float = 1.0,
    std_weight: float = 1.0,
    views_weight: float = 1.0,
    representations_weight: float = 1.0,
    normalize: bool = False,
    maximize: bool = True,
    reference_exact: bool = False,
) -> MVMRLoss:
    """Agreement of two embeddings and dependence of one of them on representations of the image.

    With z_o the embedding of the un-augmented image, z that of its view, and s the scale:

        loss = mse_weight mean (z_o - z)^2
             + std_weight sum over z, z_o of mean relu(margin - std of a column)
             + views_weight [1 - dCor(s z_o, s z)]
             + representations_weight sum_r [1 - dCor(r, s z)]

    Each distance matrix is computed once, whatever the number of representations, and only N x N values of
    a representation are kept: give them by a generator, and only one of them exists at a time.

    Runs in float32 under autocast; float64 stays. Where either side of a dCor has collapsed to a point (see
    `distance_correlation`) it is 0 without a gradient; the std term has none at a std of exactly 0. A NaN
    anywhere makes the loss NaN. N < d is nothing special.

    Args:
        z_o_nd: embeddings of the un-augmented images, `(N, D)`.
        z_nd: embeddings of a view of each, `(N, D)`.
        representations: pairs of a name and the `(N, D_r)` values, on the scale they are compared at; usually
            without gradient.
        margin: standard deviation that every column should have.
        scale: what embeddings are multiplied by before distances are taken. dCor itself knows no scale; the
            floor of the distances does.
        mse_weight: weight of the first term.
        std_weight: weight of the second.
        views_weight: weight of the third.
        representations_weight: weight of the fourth.
        normalize: first scale every row of both embeddings to length one. The std of a column is then about
            1 / sqrt(D), which the margin should know.
        maximize: False minimises the dependence on representations: + dCor(r, s z), as the authors' code.
        reference_exact: the authors' dCor, NaN at collapse.

    Returns:
        The loss, its parts and a diagnostic.

    Raises:
        ValueError: embeddings of different shapes, fewer than two rows, or a representation with another
            number of rows.

    Source: Kinakh et al., MV-MR, section 3; the code's `SelfSupervisedModule.step`, which adds dCor(r, s z)
    where the paper and the authors' own distillation maximise it.
    """
    require_matching_rows(z_o_nd, z_nd)
    with full_precision(z_o_nd, z_nd) as (z_o_nd, z_nd):
        if normalize:
            z_o_nd, z_nd = unit_rows(z_o_nd), unit_rows(z_nd)
        mse = F.mse_loss(z_o_nd, z_nd)
        std = _std_shortfall(z_nd, margin) + _std_shortfall(z_o_nd, margin)
        distances_nn = distances(scale * z_nd)
        z_nn = double_centred(distances_nn)
        exact = reference_exact
        views = 1 - distance_correlation(centred_distances(scale * z_o_nd), z_nn, reference_exact=exact)
        dependence: dict[str, Tensor] = {}
        for name, r_nd in representations:
            if r_nd.ndim != 2 or len(r_nd) != len(z_nd):
                raise ValueError(f"{name}: expected ({len(z_nd)}, D) values, got {tuple(r_nd.shape)}")
            r_nn = centred_distances(r_nd.to(z_nd.dtype))
            dependence[name] = distance_correlation(r_nn, z_nn, reference_exact=exact)
            del r_nd  # before the next one is made
        total = mse_weight * mse + std_weight * std + views_weight * views
        for dcor in dependence.values():
            total = total + representations_weight * (1 - dcor if maximize else dcor)
        return MVMRLoss(total, mse, std, views, dependence, _share_at_floor(distances_nn.detach()))


def distances(x_nd: Tensor) -> Tensor:
    """Return the Euclidean distances of all pairs of rows, at least 0.01: sqrt(max(|x_i - x_j|^2, 1e-4)).

    A pair at the floor, and a row with itself, gets no gradient.

    Args:
        x_nd: rows `(N, D)`.

    Returns:
        `(N, N)`.
    """
    # Distances do not know where the origin is; near it the squares cancel least.
    x_nd = x_nd - x_nd.detach().mean(dim=0)
    squares_n = x_nd.square().sum(dim=1)
    squares_nn = torch.addmm(squares_n[:, None] + squares_n[None, :], x_nd, x_nd.T, alpha=-2)
    # The diagonal is 0 by definition; its rounding error, after the root, would not be small. A NaN stays.
    diagonal_n = squares_n.detach() * 0
    return torch.diagonal_scatter(squares_nn, diagonal_n).clamp_min(FLOOR).sqrt()


def centred_distances(x_nd: Tensor) -> Tensor:
    """Return the double-centred `distances` of rows, what `distance_correlation` takes.

    Args:
        x_nd: rows `(N, D)`.

    Returns:
        `(N, N)`, symmetric; every row sums to 0.

    Source: Szekely, Rizzo and Bakirov 2007, definition 3, with the authors' floor of `distances`.
    """
    return double_centred(distances(x_nd))


def double_centred(d_nn: Tensor) -> Tensor:
    """Return J D J of a symmetric D: minus the means of its row and its column, plus that of all."""
    mean_n = d_nn.mean(dim=0)
    return d_nn - mean_n[:, None] - mean_n[None, :] + mean_n.mean()


def distance_correlation(a_nn: Tensor, b_nn: Tensor, *, reference_exact: bool = False) -> Tensor:
    """Return the distance correlation of two sets of rows: sqrt(mean(AB)) / (mean(A^2) mean(B^2))^(1/4).

    Where A or B is 0 but for rounding - every pair is at the floor: the rows have collapsed - or where
    mean(AB) is not positive, it is 0 with a zero gradient. A NaN stays NaN.

    Args:
        a_nn: `centred_distances` of one set.
        b_nn: `centred_distances` of the other, in the same order of rows.
        reference_exact: the formula as it stands, which divides 0 by 0 at collapse.

    Returns:
        A scalar from 0 to 1.

    Source: Szekely, Rizzo and Bakirov 2007, definition 4: the square root of their R^2 of a sample.
    """
    covariance = (a_nn * b_nn).mean()
    a_variance, b_variance = a_nn.square().mean(), b_nn.square().mean()
    if reference_exact:
        return covariance.sqrt() / (a_variance * b_variance) ** 0.25
    # Rounding of the floor's root, which is all that is left of a collapsed set.
    rounding = (100 * torch.finfo(a_nn.dtype).eps) ** 2 * FLOOR
    # Written so that a NaN makes it False and goes its way.
    nothing = (covariance <= 0) | (a_variance <= rounding) | (b_variance <= rounding)
    one = torch.ones_like(covariance)
    root = torch.where(nothing, one, covariance).sqrt()
    norm = (torch.where(nothing, one, a_variance) * torch.where(nothing, one, b_variance)) ** 0.25
    return torch.where(nothing, torch.zeros_like(root), root / norm)


def _std_shortfall(z_nd: Tensor, margin: float) -> Tensor:
    return F.relu(margin - z_nd.std(dim=0)).mean()


def _share_at_floor(distances_nn: Tensor) -> Tensor:
    pairs = len(distances_nn) * (len(distances_nn) - 1)
    at_floor = (distances_nn.square() <= FLOOR * (1 + 1e-6)).sum() - len(distances_nn)
    return at_floor.to(distances_nn.dtype) / pairs
