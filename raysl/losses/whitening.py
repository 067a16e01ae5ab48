"""Whitening of many sub-batches at once, along rows (batch whitening) or channels (channel whitening).

Shapes: v views, b sub-batches (of all views and iterations), n rows of one (w_size), d channels, g groups,
s = d/g channels of a group, m = b g blocks, each whitened by its own matrix.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raysl.losses.inverse_roots import cholesky, cholesky_product, eigen, eigen_product

Whitening = Literal["cholesky", "zca", "pca", "standardize", "none"]
OnSingular = Literal["error", "eigh"]


class SingularCovarianceError(ValueError):
    """A covariance to whiten by is singular."""


class Whitened(NamedTuple):
    """What `whiten` returns."""

    y_bnd: Tensor
    """Shaped as the input."""
    condition: Tensor | None
    """Largest condition number of a covariance, at most 1 / ulp, which means singular. For Cholesky a lower
    bound that costs nothing: a variable's variance over what the variables before it leave unexplained of it
    (its squared pivot). None where nothing is inverted."""


def whiten(
    x_bnd: Tensor,
    *,
    kind: Whitening = "cholesky",
    axis: int = 1,
    groups: int = 1,
    eps: float = 0.0,
    minus: int = 1,
    recentre: bool = False,
    channels_bd: Tensor | None = None,
    on_singular: OnSingular = "error",
) -> Whitened:
    """Whiten each sub-batch by its own statistics, in each group of channels by itself.

    axis 1 (batch whitening): A (N x s) is a group's channels of X minus its column means. axis 0 (channel
    whitening): A (s x N) is the transpose of a group's channels of X minus its row means over all d channels.
    With o the rows of A, in both cases

        S = (1 - eps) A'A / (o - minus) + eps I,    Y = A W,    W'SW = I

    where W = L^-T for S = LL' (Cholesky), U w^(-1/2) U' (ZCA) or U w^(-1/2) (PCA) for S = U w U' with
    eigenvalues descending, or diag(S)^(-1/2) (standardize). `none` returns X.

    PCA turns every eigenvector so that its entry of the largest magnitude is positive. Where eigenvalues
    coincide ZCA's gradient is still exact, and PCA's leaves out the rotation among them, which the data do
    not determine.

    S is singular when its smallest eigenvalue (Cholesky: a squared pivot) is zero within rounding, as
    `inverse_roots` says, and always where eps is 0 and there are too few observations. Then `error` raises,
    and `eigh` takes ZCA for the whole call (PCA stays PCA) with w^(-1/2) = 0 in the directions that are
    missing, and the exact gradient of that. If x holds a value that is not finite, everything is NaN
    (`standardize`: its sub-batch). `standardize` is never singular: what does not vary becomes zero.

    Args:
        x_bnd: sub-batches `(B, N, D)`, float32 or float64.
        kind: which whitening.
        axis: 1 whitens channels over rows, 0 rows over channels.
        groups: equal parts that the channels are split into.
        eps: shrinkage towards the identity, from 0 to below 1.
        minus: subtracted from the number of observations.
        recentre: axis 0 only: subtract a row's mean over its group, not over all channels.
        channels_bd: `(B, D)`, a permutation of the channels for each sub-batch, made before they are split
            into groups and undone afterwards.
        on_singular: `error` or `eigh`.

    Raises:
        ValueError: a shape or parameter that makes no sense.
        SingularCovarianceError: S is singular and `on_singular` is `error`.

    Source: axis 1 with Cholesky: W-MSE (arXiv 2007.06346), section 3. Axis 0 and groups: CW-RGP (arXiv
    2210.03586), section 4, centred as its authors' code does. Gradients: see `inverse_roots`.
    """
    rows, channels = x_bnd.shape[1:]
    _check(rows, channels, axis, groups, eps, minus, channels_bd)
    if kind == "none":
        return Whitened(x_bnd, None)
    if axis == 1 or not recentre:
        x_bnd = _Centre.apply(x_bnd, 2 - axis)
    orders = None if channels_bd is None else _flat_orders(channels_bd.to(x_bnd.device, torch.long))
    in_blocks = axis == 0 or groups > 1 or orders is not None
    a_mov = _to_blocks(x_bnd, axis, groups, recentre, orders) if in_blocks else x_bnd
    observations, variables = (rows, channels // groups)[:: 2 * axis - 1]
    # What centring and the number of observations leave of the rank, whatever rounding makes of it.
    rank = observations - (axis == 1 or recentre or groups == 1) if eps == 0 else variables
    scale = (1 - eps) / (observations - minus)
    try:
        found = _whiten_blocks(a_mov, kind, scale, eps, rank, on_singular)
    except SingularCovarianceError:
        raise SingularCovarianceError(
            f"singular covariance: w_size = {rows} rows of d = {channels} channels in {groups} group(s), "
            f"eps = {eps:g}; whitening along axis {axis} inverts a {variables} x {variables} matrix made "
            f"from {observations} observations"
        ) from None
    y_bnd = _from_blocks(found.y_bnd, x_bnd, axis, orders) if in_blocks else found.y_bnd
    return Whitened(y_bnd, found.condition)


def _to_blocks(
    x_bnd: Tensor, axis: int, groups: int, recentre: bool, orders: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return the observations `(M, O, V)` of each group of each sub-batch."""
    x_bdn = x_bnd.mT
    if orders is not None:
        x_bdn = _Channels.apply(x_bdn, *orders)
    x_msn = x_bdn.reshape(len(x_bnd) * groups, -1, x_bnd.shape[1])
    if axis == 1:
        return x_msn.mT
    return _Centre.apply(x_msn, 1) if recentre else x_msn


def _from_blocks(y_mov: Tensor, like_bnd: Tensor, axis: int, orders: tuple[Tensor, Tensor] | None) -> Tensor:
    """Undo `_to_blocks`."""
    y_bdn = (y_mov.mT if axis == 1 else y_mov).reshape(like_bnd.mT.shape)
    if orders is not None:
        y_bdn = _Channels.apply(y_bdn, *orders[::-1])
    return y_bdn.mT


def _whiten_blocks(
    a_mov: Tensor, kind: Whitening, scale: float, eps: float, rank: int, on_singular: OnSingular
) -> Whitened:
    """Return A W of each block of observations `(M, O, V)`."""
    if kind == "standardize":
        variance_m1v = scale * a_mov.square().sum(1, keepdim=True) + eps
        still_m1v = variance_m1v == 0
        return Whitened(a_mov * torch.where(still_m1v, 1, variance_m1v).rsqrt() * ~still_m1v, None)
    deficient = rank < a_mov.shape[2]
    if kind == "cholesky" and not deficient and (factor := cholesky(a_mov, scale, eps)) is not None:
        return Whitened(cholesky_product(a_mov, factor, scale), factor.condition)
    found = eigen(a_mov, scale, eps, rank)
    if found is None:
        return Whitened(a_mov * torch.nan, a_mov.new_full((), torch.nan))
    if on_singular == "error" and (kind == "cholesky" or found.kept_mv is not None):
        raise SingularCovarianceError
    return Whitened(eigen_product(a_mov, found, scale, components=kind == "pca"), found.condition)


def sub_batches(x_vnd: Tensor, permutations: Tensor, w_size: int) -> Tensor:
    """Split every view into random sub-batches of `w_size` rows, by one permutation for each iteration.

    Args:
        x_vnd: the views, `(V, N, D)`.
        permutations: `(w_iter, N)`, in each row a permutation of the N rows, the same for all views.
        w_size: rows of a sub-batch; must divide N.

    Returns:
        `(V * w_iter * N / w_size, w_size, D)`, in this order.

    Raises:
        ValueError: a w_size that is below 2 or does not divide N, or permutations of another shape.
    """
    rows = x_vnd.shape[1]
    if w_size < 2 or rows % w_size:
        raise ValueError(f"w_size must be at least 2 and divide the {rows} rows, got {w_size}")
    if permutations.dim() != 2 or permutations.shape[1] != rows or len(permutations) == 0:
        raise ValueError(f"expected permutations (w_iter, {rows}), got {tuple(permutations.shape)}")
    taken: Tensor = _Rows.apply(x_vnd, permutations.to(x_vnd.device, torch.long))
    return taken.view(-1, w_size, x_vnd.shape[2])


def _check(
    rows: int, channels: int, axis: int, groups: int, eps: float, minus: int, channels_bd: Tensor | None
) -> None:
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 (channel whitening) or 1 (batch whitening), got {axis}")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels, got {groups}")
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be at least 0 and below 1, got {eps}")
    observations = rows if axis == 1 else channels // groups
    if not observations > minus:
        raise ValueError(f"expected more than {minus} observations to whiten by, got {observations}")
    if channels_bd is not None and channels_bd.shape[1:] != (channels,):
        raise ValueError(f"expected permutations of {channels} channels, got {tuple(channels_bd.shape)}")


class _Rows(torch.autograd.Function):
    """The rows of every view in several orders, one after the other."""

    @staticmethod
    def forward(ctx: Any, x_vnd: Tensor, orders_in: Tensor) -> Tensor:
        ctx.save_for_backward(orders_in)
        return x_vnd.index_select(1, orders_in.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # Each order is undone and then they are summed: adding rows up as they come would, on a GPU, add them
        # in another order every time.
        (orders_in,) = ctx.saved_tensors
        iterations, rows = orders_in.shape
        places_in = torch.arange(iterations * rows, device=grad.device).view_as(orders_in)
        back_in = torch.empty_like(orders_in).scatter_(1, orders_in, places_in)
        grad = grad.index_select(1, back_in.flatten())
        return grad if iterations == 1 else grad.view(len(grad), iterations, rows, -1).sum(1), None


class _Centre(torch.autograd.Function):
    """Subtract the mean along a dimension: a projection, and so its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        return x - x.mean(dim, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad - grad.mean(ctx.dim, keepdim=True), None


class _Channels(torch.autograd.Function):
    """Permute the channels of each sub-batch; the gradient is permuted back, which beats a scatter."""

    @staticmethod
    def forward(ctx: Any, x_bdn: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x_bdn.flatten(0, 1).index_select(0, order).view(x_bdn.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_bdn: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return grad_bdn.flatten(0, 1).index_select(0, back).view(grad_bdn.shape), None, None


def _flat_orders(order_bd: Tensor) -> tuple[Tensor, Tensor]:
    """Return permutations of each row as one of all elements, and its inverse."""
    batches, channels = order_bd.shape
    places = torch.arange(batches * channels, device=order_bd.device)
    order = (order_bd + places[::channels, None]).flatten()
    return order, torch.empty_like(order).scatter_(0, order, places)
