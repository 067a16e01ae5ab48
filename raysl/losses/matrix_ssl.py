"""Matrix-SSL: matrix uniformity and matrix alignment (Zhang et al. 2023, arXiv 2305.17326).

Suffixes of names give shapes: n rows (the global batch), d embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raysl.losses.rows import full_precision, require_matching_rows, unit_rows
from raysl.losses.series import (
    log_coefficients,
    spectral_radius,
    split_log_series,
    trace_log_series,
    trace_product,
)


class MatrixSSLLoss(NamedTuple):
    """The loss and its parts, each a scalar summed over both directions and halved."""

    total: Tensor
    """correlation + gamma * alignment."""
    correlation: Tensor
    """Includes the factor lambda."""
    alignment: Tensor
    """Without the factor gamma."""
    radius: Tensor | None
    """Largest |eigenvalue of Q - I| over the logarithms taken, when asked for: Taylor needs it below 1."""


def matrix_ssl_loss(
    teacher: Sequence[Tensor],
    student: Sequence[Tensor],
    *,
    lam: float = 0.5,
    mu: float = 0.5,
    gamma: float = 1.0,
    order: int | None = 4,
    with_radius: bool = False,
) -> MatrixSSLLoss:
    """Matrix-SSL on two views: teacher outputs p1, p2 and predictor outputs z1, z2.

    With n(x) rows of length one, J = I - 11'/N and C(a, b) = n(a)' J n(b) / N:

        corr(p, z)  = -lam tr log(C(p, z) + mu I)
        align(p, z) = -tr[(C(p, p) + mu I) log(C(z, z) + mu I)]
        loss        = 1/2 sum over (p2, z1), (p1, z2) of corr + gamma align

    Runs in float32 under autocast; float64 stays. Constant embeddings give a finite value and a zero
    gradient; a NaN anywhere makes the whole loss NaN. N < D is allowed for mu > 0.

    Args:
        teacher: teacher outputs of the two views, each `(N, D)`; usually without gradient.
        student: predictor outputs of the same two views, each `(N, D)`.
        lam: weight of the correlation term (lambda).
        mu: multiple of the identity added to each covariance.
        gamma: weight of the alignment term.
        order: terms K of the Taylor series of the logarithm about I; None takes the exact logarithm (see
            `trace_log` for what that is where Q is not symmetric).
        with_radius: also compute `radius`, which costs about as much as the loss.

    Returns:
        The loss, its parts and the diagnostic.

    Raises:
        ValueError: not two views of each, shapes that differ, fewer than two rows, or an order below 1.

    Source: arXiv 2305.17326, section 4; the authors' `mce_loss_func`, whose cross-covariance is not
    symmetrised, and `train`.
    """
    if len(teacher) != 2 or len(student) != 2:
        raise ValueError(f"expected two views of each, got {len(teacher)} and {len(student)}")
    require_matching_rows(*teacher, *student)
    with full_precision(*teacher, *student) as tensors:
        p1_nd, p2_nd, z1_nd, z2_nd = (_centred_unit_rows(x_nd) for x_nd in tensors)
        correlation, alignment = z1_nd.new_zeros(()), z1_nd.new_zeros(())
        radii: list[Tensor] = []
        for p_nd, z_nd in ((p2_nd, z1_nd), (p1_nd, z2_nd)):
            cross_dd = _plus_identity(p_nd.T @ z_nd / len(z_nd), mu)
            target_dd = _plus_identity(p_nd.T @ p_nd / len(p_nd), mu)
            own_dd = _plus_identity(z_nd.T @ z_nd / len(z_nd), mu)
            correlation = correlation - 0.5 * lam * trace_log(cross_dd, order)
            alignment = alignment - 0.5 * trace_product_log(target_dd, own_dd, order)
            if with_radius:
                radii += [taylor_radius(cross_dd), taylor_radius(own_dd)]
        total = correlation + gamma * alignment
        return MatrixSSLLoss(total, correlation, alignment, torch.stack(radii).amax() if radii else None)


def cross_covariance(a_nd: Tensor, b_nd: Tensor) -> Tensor:
    """Return C(a, b) = n(a)' J n(b) / N, the covariance of rows of length one.

    Args:
        a_nd: rows `(N, D)`.
        b_nd: rows `(N, D)`.

    Returns:
        `(D, D)`; not symmetric unless a is b.
    """
    require_matching_rows(a_nd, b_nd)
    # J is a projection, so centring both sides once is the same as J in between.
    return _centred_unit_rows(a_nd).T @ _centred_unit_rows(b_nd) / len(a_nd)


def matrix_log(q_dd: Tensor, order: int = 4) -> Tensor:
    """Return the Taylor series of log Q about I: sum_{k=1..K} (-1)^(k+1) (Q - I)^k / k.

    It converges to log Q as K grows where every |eigenvalue of Q - I| is below 1.

    Args:
        q_dd: square matrix `(D, D)`.
        order: number of terms K.

    Returns:
        `(D, D)`, by Horner's rule with K - 1 matrix products.

    Raises:
        ValueError: an order below 1.

    Source: arXiv 2305.17326, section 4; the authors' `matrix_log`.
    """
    e_dd = _plus_identity(q_dd, -1.0)
    coefficients = log_coefficients(order)
    out_dd = coefficients[-1] * e_dd
    for coefficient in reversed(coefficients[:-1]):
        out_dd = e_dd @ out_dd + coefficient * e_dd
    return out_dd


def symmetric_log(q_dd: Tensor) -> Tensor:
    """Return the exact logarithm of a symmetric positive definite matrix: V log(w) V' with Q = V w V'.

    Its gradient is that of Daleckii and Krein, finite where eigenvalues coincide - which they do whenever
    N < D. An eigenvalue that is not positive, or a value that is not finite, makes the result NaN.

    Args:
        q_dd: `(D, D)`, symmetric; only its lower triangle is read.

    Returns:
        `(D, D)`, symmetric.
    """
    log_dd: Tensor = _SymmetricLog.apply(q_dd)
    return log_dd


def trace_log(q_dd: Tensor, order: int | None = 4) -> Tensor:
    """Return tr log Q of a square matrix, symmetric or not.

    Taylor: `matrix_log`'s trace with about K/2 - 1 matrix products, because tr(AB) = sum(A * B') needs none.
    Exact: log det Q, which equals the trace of the principal logarithm of a real matrix without
    eigenvalues on the closed negative axis. NaN where det Q <= 0, since no real logarithm exists there.

    Args:
        q_dd: `(D, D)`.
        order: number of terms K; None for the exact trace.

    Returns:
        A scalar.

    Raises:
        ValueError: an order below 1.
    """
    if order is None:
        sign, log_abs_det = torch.linalg.slogdet(q_dd)
        return torch.where(sign > 0, log_abs_det, torch.nan)
    return trace_log_series(_plus_identity(q_dd, -1.0), order)


def trace_product_log(a_dd: Tensor, q_dd: Tensor, order: int | None = 4) -> Tensor:
    """Return tr(A log Q) for symmetric Q.

    Args:
        a_dd: `(D, D)`.
        q_dd: `(D, D)`, symmetric.
        order: number of terms K of `matrix_log`, evaluated with about K/2 matrix products; None for
            `symmetric_log`.

    Returns:
        A scalar.

    Raises:
        ValueError: an order below 1.
    """
    if order is None:
        return trace_product(a_dd, symmetric_log(q_dd))
    highest_dd, low_dd, high_dd = split_log_series(_plus_identity(q_dd, -1.0), order)
    return trace_product(a_dd, low_dd) + trace_product(a_dd @ highest_dd, high_dd)


@torch.no_grad()
def taylor_radius(q_dd: Tensor, squarings: int = 10) -> Tensor:
    """Return the largest |eigenvalue of Q - I|, without gradient: the series of log Q needs it below 1.

    Args:
        q_dd: `(D, D)`, symmetric or not.
        squarings: matrix products spent; see `spectral_radius`.

    Returns:
        A scalar; 0 for Q = I, NaN if Q holds a NaN.
    """
    return spectral_radius(_plus_identity(q_dd.detach(), -1.0), squarings)


class _SymmetricLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_dd: Tensor) -> Tensor:
        finite = q_dd.isfinite().all()
        # LAPACK gives up on a NaN, which should spread.
        w_d, v_dd = torch.linalg.eigh(q_dd.masked_fill(~finite, 0.0))
        w_d = w_d.masked_fill(~finite, torch.nan)
        ctx.save_for_backward(w_d, v_dd)
        log_dd: Tensor = (v_dd * w_d.log()) @ v_dd.T
        return log_dd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_dd: Tensor) -> Tensor:
        w_d, v_dd = ctx.saved_tensors
        # (log a - log b) / (a - b) = 2 atanh(r) / (r (a + b)) with r = (a - b) / (a + b): no cancellation.
        sum_dd = w_d[:, None] + w_d[None, :]
        r_dd = (w_d[:, None] - w_d[None, :]) / sum_dd
        near_dd = r_dd.abs() < 1e-4
        safe_dd = torch.where(near_dd, torch.full_like(r_dd, 0.5), r_dd)
        ratio_dd = torch.where(near_dd, 1 + r_dd.square() / 3, torch.atanh(safe_dd) / safe_dd)
        symmetric_dd = 0.5 * (grad_dd + grad_dd.T)
        inner_dd = (v_dd.T @ symmetric_dd @ v_dd) * (2 * ratio_dd / sum_dd)
        grad_q_dd: Tensor = v_dd @ inner_dd @ v_dd.T
        return grad_q_dd


def _centred_unit_rows(x_nd: Tensor) -> Tensor:
    unit_nd = unit_rows(x_nd)
    return unit_nd - unit_nd.mean(dim=0)


def _plus_identity(q_dd: Tensor, scale: float) -> Tensor:
    return q_dd + scale * torch.eye(len(q_dd), dtype=q_dd.dtype, device=q_dd.device)
