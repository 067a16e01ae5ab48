"""INTL: iterative whitening with a trace loss (Weng et al. 2024, arXiv 2305.16789), and its momentum variant.

Suffixes of names give shapes: v views, n rows (the global batch), d embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raysl.losses.rows import full_precision, require_matching_rows, unit_rows

Axis = Literal[0, 1]


class IntlLoss(NamedTuple):
    """The loss and its parts, scalars."""

    total: Tensor
    """mse + beta * trace."""
    mse: Tensor
    """2 - 2 cos between the whitened views and the first, averaged over rows and views."""
    trace: Tensor
    """Trace loss: the mean over the views but the first, and that of the first where it is trained."""
    condition: Tensor | None
    """Largest condition number of a covariance before whitening, when asked for."""


def intl_loss(
    views: Sequence[Tensor],
    *,
    beta: float,
    axis: Axis = 0,
    iterations: int = 4,
    with_condition: bool = False,
) -> IntlLoss:
    """INTL on two views or more.

    With t_i the whitened view i (`iterative_whitening`), TL the `trace_loss` and nmse(a, b) =
    2 - 2 mean over rows of cos(a, b):

        loss = mean over i >= 1 of nmse(t_i, t_0) + beta (TL(t_i) + TL(t_0))

    Runs in float32 under autocast; float64 stays. A row (axis 0) or column (axis 1) without variance is taken
    as zero and gets no gradient, so that collapsed embeddings give a finite value; a NaN anywhere makes the
    whole loss NaN. Duplicated rows and N < D or N > D need no care, since nothing is inverted.

    Args:
        views: embeddings `(N, D)` of each view; the others are compared with the first.
        beta: weight of the trace loss; `trade_off` gives the authors'.
        axis: 0 whitens the rows of a batch against each other (over the channels), 1 the channels.
        iterations: Newton's iterations T of the whitening.
        with_condition: also compute `condition`, which takes the eigenvalues.

    Returns:
        The loss, its parts and the diagnostic.

    Raises:
        ValueError: fewer than two views, shapes that differ, fewer than two rows or columns, no iteration, or
            an unknown axis.

    Source: arXiv 2305.16789, section 4. The authors train under float16 autocast, whitening included; here
    that is float32.
    """
    return _loss(views, beta, axis, iterations, trace_of_first=True, with_condition=with_condition)


def intl_m_loss(
    key: Tensor,
    queries: Sequence[Tensor],
    *,
    beta: float,
    axis: Axis = 0,
    iterations: int = 4,
    with_condition: bool = False,
) -> IntlLoss:
    """INTL with a momentum network: queries of the trained network against the key of its slow copy.

        loss = mean over i of nmse(t(q_i), t(k)) + beta TL(t(q_i))

    Args:
        key: embeddings `(N, D)` by the momentum network; usually without gradient.
        queries: embeddings `(N, D)` of the other views by the trained network, one or more.
        beta: as in `intl_loss`, with all else.
        axis: likewise.
        iterations: likewise.
        with_condition: likewise.

    Returns:
        The loss, its parts and the diagnostic.

    Raises:
        ValueError: as `intl_loss`.

    Source: arXiv 2305.16789, appendix; the authors' `INTL_M`.
    """
    views = [key, *queries]
    return _loss(views, beta, axis, iterations, trace_of_first=False, with_condition=with_condition)


def trade_off(batch_size: int, dimension: int, axis: Axis = 0) -> float:
    """Return the authors' weight of the trace loss: beta = 0.01 (log2 n - 3).

    Args:
        batch_size: rows of the global batch: n for axis 0.
        dimension: size of an embedding: n for axis 1.
        axis: what is whitened.

    Source: arXiv 2305.16789, section 4; below n = 8 it is negative, which no published run has.
    """
    return 0.01 * (math.log2(batch_size if axis == 0 else dimension) - 3.0)


def trace_loss(y_nd: Tensor, axis: Axis = 0) -> Tensor:
    """Return TL(y) = sum of (variance - 1)^2 over the rows (axis 0) or the columns (axis 1), unbiased.

    Args:
        y_nd: whitened embeddings `(N, D)`.
        axis: what they were whitened along.

    Source: arXiv 2305.16789, section 4.
    """
    with full_precision(y_nd) as (y,):
        return (y.var(dim=_along(axis)) - 1.0).square().sum()


def iterative_whitening(x_nd: Tensor, *, axis: Axis = 0, iterations: int = 4) -> Tensor:
    """Whiten by T of Newton's iterations towards the inverse square root of the covariance.

    With X the centred embeddings, S = X X'/(D - 1), N x N, for axis 0 or X'X/(N - 1), D x D, for axis 1, and
    S_N = S / tr S:

        P_0 = I,  P <- 1.5 P - 0.5 P^3 S_N,  y = P X / sqrt(tr S)  (axis 1: X P / sqrt(tr S))

    No eps: few iterations leave small eigenvalues small instead. Because p(X X') X = X p(X'X) for every
    polynomial p, either axis is computed on the smaller side of X.

    Args:
        x_nd: embeddings `(N, D)`.
        axis: 0 centres rows and whitens N x N; 1 centres columns and whitens D x D.
        iterations: T, at least 1.

    Returns:
        As `x_nd`. Rows (axis 0) or columns (axis 1) without variance become zero, without gradient.

    Raises:
        ValueError: fewer than two rows or columns, no iteration, or an unknown axis.

    Source: arXiv 2305.16789, section 4, after IterNorm (arXiv 1904.03441).
    """
    _require(x_nd.shape, axis, iterations)
    with full_precision(x_nd) as (x,):
        x = _centred(x, axis)
        sn_1ss, trace_1 = _normalised_grams([x])
        return _apply(_inverse_root(sn_1ss, iterations)[0], x, trace_1[0], axis)


def _loss(
    views: Sequence[Tensor],
    beta: float,
    axis: Axis,
    iterations: int,
    *,
    trace_of_first: bool,
    with_condition: bool,
) -> IntlLoss:
    if len(views) < 2:
        raise ValueError(f"expected two views or more, got {len(views)}")
    require_matching_rows(*views)
    _require(views[0].shape, axis, iterations)
    with full_precision(*views) as tensors:
        x = [_centred(x_nd, axis) for x_nd in tensors]
        sn_vss, trace_v = _normalised_grams(x)
        p_vss = _inverse_root(sn_vss, iterations)
        if axis == 0 and not _is_tall(x[0]):
            cosines, variances = _from_grams(x, sn_vss, trace_v, p_vss)
        else:
            y = [_apply(p, x_nd, trace, axis) for p, x_nd, trace in zip(p_vss, x, trace_v, strict=True)]
            u_nd, *others = [unit_rows(y_nd) for y_nd in y]
            cosines = torch.stack([(other * u_nd).sum(dim=1) for other in others])
            variances = torch.stack([y_nd.var(dim=_along(axis)) for y_nd in y])
        mse = 2.0 - 2.0 * cosines.mean()
        departure_v = (variances - 1.0).square().sum(dim=1)
        trace = departure_v[1:].mean() + (departure_v[0] if trace_of_first else 0.0)
        condition = _condition(sn_vss.detach(), x[0].shape, axis) if with_condition else None
        return IntlLoss(mse + beta * trace, mse, trace, condition)


def _from_grams(x: Sequence[Tensor], sn_vnn: Tensor, trace_v: Tensor, p_vnn: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines (V - 1, N) and variances (V, N) of the rows of P X / sqrt(tr S), without forming it.

    Their variances are the diagonal of P S_N P, and their products with the first view that of
    P_i X_i X_0' P_0 but for the lengths, so that after the products of views nothing has D columns.
    """
    variance_vn = (p_vnn * (sn_vnn @ p_vnn)).sum(dim=2)
    scale_v = _reciprocal(trace_v).sqrt()
    cross = torch.stack([x_nd @ x[0].T for x_nd in x[1:]]) * (scale_v[1:] * scale_v[0])[:, None, None]
    dot = ((p_vnn[1:] @ cross) * p_vnn[0]).sum(dim=2)
    length_vn = _reciprocal(variance_vn).sqrt()
    return dot * length_vn[1:] * length_vn[0], variance_vn


def _inverse_root(sn_vss: Tensor, iterations: int) -> Tensor:
    """Return P_T of P <- 1.5 P - 0.5 P^3 S_N from P_0 = I.

    P is a polynomial of S_N and commutes with it, so that P^3 S_N = P (P S_N) P, which stays symmetric.
    """
    eye_ss = torch.eye(sn_vss.shape[-1], dtype=sn_vss.dtype, device=sn_vss.device)
    p_vss = 1.5 * eye_ss - 0.5 * sn_vss
    for _ in range(iterations - 1):
        p_vss = torch.baddbmm(p_vss, p_vss @ (p_vss @ sn_vss), p_vss, beta=1.5, alpha=-0.5)
    return p_vss


class _Gram(torch.autograd.Function):
    """X X', whose gradient (G + G') X takes one product and not two."""

    @staticmethod
    def forward(ctx: Any, x_sd: Tensor) -> Tensor:
        ctx.save_for_backward(x_sd)
        return x_sd @ x_sd.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ss: Tensor) -> Tensor:
        (x_sd,) = ctx.saved_tensors
        grad_sd: Tensor = (grad_ss + grad_ss.T) @ x_sd
        return grad_sd


def _normalised_grams(x: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return X X' or X'X of each view, the smaller, over its trace, and the traces; zeros where that is 0."""
    grams: list[Tensor] = [_Gram.apply(x_nd.T if _is_tall(x_nd) else x_nd) for x_nd in x]
    gram_vss = torch.stack(grams)
    trace_v = gram_vss.diagonal(dim1=1, dim2=2).sum(dim=1)
    return gram_vss * _reciprocal(trace_v)[:, None, None], trace_v


def _apply(p_ss: Tensor, x_nd: Tensor, trace: Tensor, axis: Axis) -> Tensor:
    """Return P X / sqrt(tr S), or X P / sqrt(tr S) where D is the smaller side."""
    scale = (_reciprocal(trace) * (x_nd.shape[_along(axis)] - 1)).sqrt()
    return (x_nd @ p_ss if _is_tall(x_nd) else p_ss @ x_nd) * scale


def _centred(x_nd: Tensor, axis: Axis) -> Tensor:
    """Subtract the mean of each row (axis 0) or column (axis 1); one of equal values becomes zero.

    What rounding leaves of equal values would otherwise be whitened like any signal. The result is in units
    of its largest standard deviation: whitening knows no scale, but powers of small values underflow.
    """
    variance, mean = torch.var_mean(x_nd, dim=_along(axis), keepdim=True)
    deviation, rounding = variance.detach().sqrt(), 16.0 * torch.finfo(x_nd.dtype).eps
    flat = deviation <= rounding * mean.detach().abs()
    largest = deviation.amax()
    unit = (1.0 / largest).masked_fill(largest.isinf(), torch.nan)
    return (x_nd - mean) * torch.where(flat, 0.0, unit)


def _reciprocal(x: Tensor) -> Tensor:
    """Return 1 / x, and 0 without gradient where x is not above 0; NaN stays."""
    none = x <= 0
    return (1.0 / x.masked_fill(none, 1.0)).masked_fill(none, 0.0)


@torch.no_grad()
def _condition(sn_vss: Tensor, shape: torch.Size, axis: Axis) -> Tensor:
    """Return the largest condition number over the directions that centring leaves, at most 1 / eps."""
    if not bool(sn_vss.isfinite().all()):
        return sn_vss.new_full((), torch.nan)
    rank = min(shape[axis], shape[_along(axis)] - 1)
    w_vs = torch.linalg.eigvalsh(sn_vss)
    least_v = torch.maximum(w_vs[:, -rank], torch.finfo(w_vs.dtype).eps * w_vs[:, -1])
    condition: Tensor = (w_vs[:, -1] / least_v).amax()
    return condition


def _along(axis: Axis) -> Literal[0, 1]:
    """Return the dimension that means and variances are taken over."""
    return 1 if axis == 0 else 0


def _is_tall(x_nd: Tensor) -> bool:
    return x_nd.shape[0] > x_nd.shape[1]


def _require(shape: torch.Size, axis: int, iterations: int) -> None:
    if axis not in (0, 1):
        raise ValueError(f"axis is 0 (rows against each other) or 1 (channels), got {axis}")
    if iterations < 1:
        raise ValueError(f"expected at least one iteration of the whitening, got {iterations}")
    if len(shape) != 2 or min(shape) < 2:
        raise ValueError(f"expected (N, D) with N >= 2 and D >= 2, got {tuple(shape)}")
