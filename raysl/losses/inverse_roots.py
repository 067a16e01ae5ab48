"""A W with W'SW = I for many covariances S = scale A'A + eps I at once, differentiable in A.

Each product has a backward pass of its own: a few matrix products instead of the gradient of the
factorisation, and finite where that is not. Shapes: m blocks, o observations, v variables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Above these condition numbers a float32 factorisation loses too many digits and is done again in float64.
# The first is of what Cholesky yields, a lower bound.
_TRUSTED_PIVOTS, _TRUSTED_EIGENVALUES = 10.0, 100.0


class Cholesky(NamedTuple):
    """What `cholesky` returns."""

    inverse_mvv: Tensor
    """L^-1, lower triangular."""
    condition: Tensor
    """The largest S_ii / L_ii^2 of all blocks, a lower bound of the largest condition number."""


class Eigen(NamedTuple):
    """What `eigen` returns, eigenvalues descending."""

    values_mv: Tensor
    vectors_mvv: Tensor
    """In columns."""
    kept_mv: Tensor | None
    """False where an eigenvalue is zero within rounding; None if none is."""
    condition: Tensor
    """The largest ratio of two eigenvalues of a block, at most 1 / ulp of float64."""


@torch.no_grad()
def cholesky(a_mov: Tensor, scale: float, eps: float) -> Cholesky | None:
    """Factorise S = L L' of every block at once.

    Float32 is tried first. Where it would lose digits S is formed and factorised in float64, which leaves an
    error of the square root of its condition number, in units of rounding.

    Args:
        a_mov: observations `(M, O, V)`.
        scale: of the product A'A.
        eps: multiple of the identity added to it.

    Returns:
        The inverse factors; None if a block holds a value that is not finite, or is singular: a squared pivot
        is within V ulp of its variable's variance, (V ulp)^2 for float32.
    """
    found = _factor(_covariance(a_mov, scale, eps), a_mov.dtype)
    if a_mov.dtype == torch.float32 and (found is None or found.condition > _TRUSTED_PIVOTS):
        found = _factor(_covariance(a_mov.double(), scale, eps), a_mov.dtype)
    return found and Cholesky(*(x.to(a_mov.dtype) for x in found))


@torch.no_grad()
def eigen(a_mov: Tensor, scale: float, eps: float, rank: int) -> Eigen | None:
    """Decompose S = U w U' of every block at once, in the precision that `cholesky` would take.

    Args:
        a_mov: observations `(M, O, V)`.
        scale: of the product A'A.
        eps: multiple of the identity added to it.
        rank: eigenvalues after the first `rank` are known to be zero.

    Returns:
        Eigenvalues and eigenvectors; None if a block holds a value that is not finite. An eigenvalue is kept
        if it is above the largest times V ulp, (V ulp)^2 for float32, and above 5e-26 (float64: 8e-206).
    """
    s_mvv = _covariance(a_mov, scale, eps)
    # A value that is not finite always reaches the diagonal.
    if not s_mvv.diagonal(dim1=1, dim2=2).sum().isfinite():
        return None
    found = None if rank < s_mvv.shape[1] else _decompose(s_mvv, a_mov.dtype, rank)
    if found is None or (a_mov.dtype == torch.float32 and found.condition > _TRUSTED_EIGENVALUES):
        found = _decompose(_covariance(a_mov.double(), scale, eps), a_mov.dtype, rank)
    values_mv, vectors_mvv, kept_mv, condition = found
    return Eigen(values_mv.to(a_mov.dtype), vectors_mvv.to(a_mov.dtype), kept_mv, condition.to(a_mov.dtype))


def _covariance(a_mov: Tensor, scale: float, eps: float) -> Tensor:
    s_mvv = torch.bmm(a_mov.mT, a_mov).mul_(scale)
    if eps:
        s_mvv.diagonal(dim1=1, dim2=2).add_(eps)
    return s_mvv


def _zero(s_mvv: Tensor, given: torch.dtype) -> float:
    """Return up to which share of the largest a number is taken for zero."""
    # What float32 rounding leaves of a dependent variable is squared in the covariance.
    rounding = s_mvv.shape[1] * torch.finfo(given).eps
    return rounding**2 if s_mvv.dtype != given else rounding


def _factor(s_mvv: Tensor, given: torch.dtype) -> Cholesky | None:
    factor_mvv, info_m = torch.linalg.cholesky_ex(s_mvv)
    smallest = (factor_mvv.diagonal(dim1=1, dim2=2).square() / s_mvv.diagonal(dim1=1, dim2=2)).amin()
    # A NaN fails this comparison, as it has to.
    if not (smallest > _zero(s_mvv, given)) & (info_m == 0).all():
        return None
    identity_mvv = torch.eye(s_mvv.shape[1], dtype=s_mvv.dtype, device=s_mvv.device).expand_as(s_mvv)
    # Solved from the right: in torch's row-major layout that is the faster side.
    inverse_mvv = torch.linalg.solve_triangular(factor_mvv, identity_mvv, upper=False, left=False)
    return Cholesky(inverse_mvv, smallest.reciprocal())


def _decompose(s_mvv: Tensor, given: torch.dtype, rank: int) -> Eigen:
    values_mv, vectors_mvv = (x.flip(-1) for x in torch.linalg.eigh(s_mvv))
    largest_m1 = values_mv[:, :1]
    # Below the second bound w^(-3/2), of which gradients are made, overflows.
    kept_mv = values_mv > (_zero(s_mvv, given) * largest_m1).clamp_min(torch.finfo(given).tiny ** (2 / 3))
    kept_mv[:, rank:] = False
    share_m = values_mv[:, -1] / largest_m1[:, 0].clamp_min(torch.finfo(s_mvv.dtype).tiny)
    condition = share_m.clamp_min(torch.finfo(s_mvv.dtype).eps).amin().reciprocal()
    return Eigen(values_mv, vectors_mvv, None if kept_mv.all() else kept_mv, condition)


def cholesky_product(a_mov: Tensor, found: Cholesky, scale: float) -> Tensor:
    """Return A L^-T, with its gradient in A through L as well.

    With Y = A L^-T, G the gradient of Y and P the lower triangle of G'Y with its diagonal halved:

        dA = (G - scale Y (P + P')) L^-1

    Args:
        a_mov: observations `(M, O, V)`.
        found: of `cholesky(a_mov, scale, eps)`.
        scale: as there.
    """
    y_mov: Tensor = _CholeskyProduct.apply(a_mov, found.inverse_mvv, scale)
    return y_mov


def eigen_product(a_mov: Tensor, found: Eigen, scale: float, *, components: bool) -> Tensor:
    """Return A U w^(-1/2) U' (ZCA), or A U w^(-1/2) (PCA, `components`), with its gradient in A.

    Directions that are not kept become zero. For PCA the columns of U are turned so that the entry of the
    largest magnitude of each is positive. With Z = A U, f = w^(-1/2), G the gradient of the result, turned by
    U for ZCA, and H = Z'G,

        dA = (G diag(f) + 2 scale Z M) U'

    where for ZCA M = F * (H + H') / 2 with Daleckii and Krein's F_ij = (f_i - f_j) / (w_i - w_j), f being 0
    in directions that are not kept. For PCA M_ij = (H_ij f_j - H_ji f_i) / (2 (w_j - w_i)), or 0 where the
    two eigenvalues coincide within rounding, and M_ii = -H_ii f_i^3 / 2.

    Args:
        a_mov: observations `(M, O, V)`.
        found: of `eigen(a_mov, scale, eps, rank)`.
        scale: as there.
        components: PCA.
    """
    values_mv, u_mvv = found.values_mv, found.vectors_mvv
    if components:
        peak_m1v = u_mvv.abs().argmax(1, keepdim=True)
        u_mvv = u_mvv * u_mvv.gather(1, peak_m1v).sign()
    if found.kept_mv is None:
        f_mv = values_mv.rsqrt()
    else:
        f_mv = torch.where(found.kept_mv, values_mv, 1).rsqrt() * found.kept_mv
    whole = found.kept_mv is None
    y_mov: Tensor = _EigenProduct.apply(a_mov, values_mv, u_mvv, f_mv, scale, components, whole)
    return y_mov


class _CholeskyProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a_mov: Tensor, inverse_mvv: Tensor, scale: float) -> Tensor:
        y_mov = torch.bmm(a_mov, inverse_mvv.mT)
        ctx.save_for_backward(y_mov, inverse_mvv)
        ctx.scale = scale
        return y_mov

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mov: Tensor) -> tuple[Tensor, None, None]:
        y_mov, inverse_mvv = ctx.saved_tensors
        p_mvv = torch.bmm(grad_mov.mT, y_mov).tril_()
        both_mvv = p_mvv + p_mvv.mT
        both_mvv.diagonal(dim1=1, dim2=2).mul_(0.5)
        return torch.baddbmm(grad_mov, y_mov, both_mvv, alpha=-ctx.scale).bmm(inverse_mvv), None, None


class _EigenProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_mov: Tensor,
        values_mv: Tensor,
        u_mvv: Tensor,
        f_mv: Tensor,
        scale: float,
        components: bool,
        whole: bool,
    ) -> Tensor:
        z_mov = a_mov.bmm(u_mvv)
        ctx.save_for_backward(z_mov, values_mv, u_mvv, f_mv)
        ctx.scale, ctx.components, ctx.whole = scale, components, whole
        y_mov = z_mov * f_mv[:, None, :]
        return y_mov if components else y_mov.bmm(u_mvv.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mov: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        z_mov, values_mv, u_mvv, f_mv = ctx.saved_tensors
        g_mov = grad_mov if ctx.components else grad_mov.bmm(u_mvv)
        h_mvv = z_mov.mT.bmm(g_mov)
        if ctx.components:
            m_mvv = _principal_weights(h_mvv, values_mv, f_mv)
        else:
            m_mvv = _divided_differences(values_mv, f_mv, ctx.whole).mul_(h_mvv + h_mvv.mT).mul_(0.5)
        turned_mov = (g_mov * f_mv[:, None, :]).baddbmm_(z_mov, m_mvv, alpha=2 * ctx.scale)
        return turned_mov.bmm(u_mvv.mT), None, None, None, None, None, None


def _divided_differences(values_mv: Tensor, f_mv: Tensor, whole: bool) -> Tensor:
    """Return (f_i - f_j) / (w_i - w_j) of f = w^(-1/2) without cancellation; f is 0 where not kept."""
    root_mv = torch.where(f_mv > 0, values_mv, 0).sqrt()
    sum_mvv = root_mv[:, :, None] + root_mv[:, None, :]
    both_mvv = f_mv[:, :, None] * f_mv[:, None, :]
    if whole:
        return both_mvv.div_(sum_mvv).neg_()
    # With one of the two directions not kept, f_i / w_i; with neither, zero.
    kept_mv, cube_mv = (f_mv > 0).to(f_mv.dtype), f_mv**3
    one_mvv = cube_mv[:, :, None] * (1 - kept_mv)[:, None, :]
    return one_mvv + one_mvv.mT - both_mvv / torch.where(sum_mvv > 0, sum_mvv, 1)


def _principal_weights(h_mvv: Tensor, values_mv: Tensor, f_mv: Tensor) -> Tensor:
    """Return M of `eigen_product` for PCA, symmetric."""
    gap_mvv = values_mv[:, None, :] - values_mv[:, :, None]
    least_m11 = values_mv.shape[1] * torch.finfo(values_mv.dtype).eps * values_mv[:, :1, None].abs()
    apart_mvv = gap_mvv.abs() > least_m11
    turned_mvv = h_mvv * f_mv[:, None, :]
    m_mvv = 0.5 * (turned_mvv - turned_mvv.mT) * apart_mvv / torch.where(apart_mvv, gap_mvv, 1)
    m_mvv.diagonal(dim1=1, dim2=2).copy_(-0.5 * h_mvv.diagonal(dim1=1, dim2=2) * f_mv**3)
    return m_mvv
