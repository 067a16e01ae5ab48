"""MEC: maximum entropy coding (Liu et al. 2022, arXiv 2210.11464).

Suffixes of names give shapes: n rows (the global batch, m in the paper), d embedding size, k the smaller of
the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from raysl.losses.rows import full_precision, require_matching_rows, unit_rows
from raysl.losses.series import spectral_radius, trace_log_series


class MECLoss(NamedTuple):
    """The loss and what is logged beside it."""

    total: Tensor
    """-lamda_inv * mec: what is minimised."""
    coding_length: Tensor
    """mec (m + d) / 2, without gradient: the coding length of a sample, which the authors log as MEC."""
    radius: Tensor | None
    """Largest |eigenvalue of c| over both directions, when asked for: the Taylor series needs it below 1."""


def mec_loss(
    teacher: Sequence[Tensor],
    student: Sequence[Tensor],
    *,
    lamda_inv: float,
    order: int = 4,
    with_radius: bool = False,
) -> MECLoss:
    """Maximum entropy coding on two views: teacher outputs p1, p2 and predictor outputs z1, z2.

    With n(x) rows of length one and m rows:

        c(p, z) = n(p) n(z)' / lamda_inv
        f(p, z) = sum_{k=1..K} (-1)^(k+1) tr(c^k) / k          (Taylor of log det(I + c))
        mec     = [f(p1, z2) + f(p2, z1)] / (2 m)
        loss    = -lamda_inv mec

    Runs in float32 under autocast; float64 stays. Constant embeddings give a finite value, and a zero
    gradient where both networks give the same direction; a row of zeros counts as no row and receives no
    gradient; N < D and duplicated rows are ordinary; a NaN anywhere makes the loss NaN.

    Args:
        teacher: teacher outputs of the two views, each `(N, D)`; usually without gradient.
        student: predictor outputs of the same two views, each `(N, D)`.
        lamda_inv: what the similarities are divided by, above 0: N * eps / D, and more in the warm-up.
        order: terms K of the series.
        with_radius: also compute `radius`, which costs more than the loss.

    Returns:
        The loss, the coding length and the diagnostic.

    Raises:
        ValueError: not two views of each, shapes that differ, fewer than two rows, an order below 1, or a
            lamda_inv that is not positive.

    Source: arXiv 2210.11464, equations 2 and 4; the authors' `loss_func` and `train`. They raise the N x N
    matrix c to its powers; n(z)' n(p) / lamda_inv, of D x D, has the same tr(c^k), and the smaller is taken.
    """
    if len(teacher) != 2 or len(student) != 2:
        raise ValueError(f"expected two views of each, got {len(teacher)} and {len(student)}")
    if not lamda_inv > 0:
        raise ValueError(f"lamda_inv must be positive, got {lamda_inv}")
    require_matching_rows(*teacher, *student)
    rows, dimension = student[0].shape
    with full_precision(*teacher, *student) as (p1_nd, p2_nd, z1_nd, z2_nd):
        crosses = [_cross(p1_nd, z2_nd, lamda_inv), _cross(p2_nd, z1_nd, lamda_inv)]
        mec = (trace_log_series(crosses[0], order) + trace_log_series(crosses[1], order)) / (2 * rows)
        radius = torch.stack([spectral_radius(c_kk) for c_kk in crosses]).amax() if with_radius else None
        return MECLoss(-lamda_inv * mec, mec.detach() * (rows + dimension) / 2, radius)


def _cross(p_nd: Tensor, z_nd: Tensor, lamda_inv: float) -> Tensor:
    """Return c or its D x D twin, whichever is smaller."""
    p_nd, z_nd = unit_rows(p_nd), unit_rows(z_nd)
    rows, dimension = z_nd.shape
    c_kk = z_nd @ p_nd.T if rows < dimension else z_nd.T @ p_nd
    return c_kk / lamda_inv
