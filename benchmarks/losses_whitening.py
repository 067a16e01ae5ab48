"""W-MSE and CW-RGP beside the loops of their authors' code, rewritten here from what that code does.

Theirs keeps all views in one matrix of embeddings, takes and puts back the rows of each sub-batch of each
view by index, whitens one sub-batch of one view at a time with the gradient of the factorisation, and then
loops over pairs of views.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loss_case import Forward, LossCase
from raysl.losses.cw_rgp import cw_rgp_loss
from raysl.losses.w_mse import w_mse_loss

Whiten = Callable[[Tensor], Tensor]
_EPS = 0.0


def whiten_rows(x_nd: Tensor) -> Tensor:
    """W-MSE's whitening: L^-1 of the covariance as a convolution with 1 x 1 kernels."""
    rows, size = x_nd.shape
    x = x_nd[:, :, None, None]
    centred = x - x.mean(0).view(size, -1).mean(-1).view(1, size, 1, 1)
    flat = centred.permute(1, 0, 2, 3).contiguous().view(size, -1)
    identity = torch.eye(size, device=x_nd.device)
    covariance = (1 - _EPS) * (flat @ flat.T / (rows - 1)) + _EPS * identity
    factor = torch.linalg.cholesky(covariance)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    return F.conv2d(centred, inverse.contiguous().view(size, size, 1, 1)).squeeze(2).squeeze(2)


def whiten_channels(x_nd: Tensor, order: list[int], groups: int) -> Tensor:
    """CW-RGP's whitening: ZCA of the rows over each group of shuffled channels, by an SVD.

    The groups are a batch; the way back from the shuffle is looked up in the list, channel by channel.
    """
    rows, size = x_nd.shape
    centred = x_nd - x_nd.mean(1).view(-1, 1)
    parts = centred[:, order].reshape(rows, groups, size // groups).permute(1, 2, 0)
    identity = torch.eye(rows, device=x_nd.device).repeat(groups, 1, 1)
    covariance = torch.bmm(parts.permute(0, 2, 1), parts) / (parts.shape[1] - 1)
    u, values, _ = torch.linalg.svd((1 - _EPS) * covariance + _EPS * identity)
    inverse_root = torch.bmm(torch.bmm(u, torch.diag_embed(values.rsqrt())), u.permute(0, 2, 1))
    back = [order.index(channel) for channel in range(size)]
    return torch.bmm(parts, inverse_root).permute(2, 0, 1).reshape(rows, size)[:, back]


def loops(
    h: Tensor, views: int, permutations: Tensor, w_size: int, whiten: list[list[list[Whiten]]]
) -> Tensor:
    """Return the loss; `whiten` is by iteration, sub-batch and view."""
    rows = len(h) // views
    loss = h.new_zeros(())
    for permutation, of_iteration in zip(permutations, whiten, strict=True):
        z = torch.empty_like(h)
        for index, of_sub_batch in zip(permutation.view(-1, w_size), of_iteration, strict=True):
            for view, whiten_one in enumerate(of_sub_batch):
                z[index + view * rows] = whiten_one(h[index + view * rows])
        for i in range(views - 1):
            for j in range(i + 1, views):
                a = F.normalize(z[i * rows : (i + 1) * rows])
                b = F.normalize(z[j * rows : (j + 1) * rows])
                loss = loss + 2 - 2 * (a * b).sum(-1).mean()
    return loss / (len(permutations) * views * (views - 1) / 2)


def _inputs(
    device: torch.device, views: int, rows: int, size: int, w_iter: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return leaves for ours (a tensor for each view) and theirs (one for all), and the permutations."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(views * rows, size, generator=generator).to(device)
    permutations = torch.stack([torch.randperm(rows, generator=generator) for _ in range(w_iter)])
    ours = [part.clone().requires_grad_() for part in h.chunk(views)]
    return ours, h.clone().requires_grad_(), permutations.to(device)


def _clear(leaves: list[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


def w_mse_case(
    views: int, rows: int, size: int, w_size: int, w_iter: int
) -> Callable[[torch.device], tuple[Forward, Forward]]:
    """Return what makes ours and the loops for W-MSE."""

    def make(device: torch.device) -> tuple[Forward, Forward]:
        leaves, joint, permutations = _inputs(device, views, rows, size, w_iter)
        whiten: list[list[list[Whiten]]] = [[[whiten_rows] * views] * (rows // w_size)] * w_iter

        def ours() -> Tensor:
            _clear(leaves)
            return w_mse_loss(leaves, permutations=permutations, w_size=w_size).total

        def theirs() -> Tensor:
            _clear([joint])
            return loops(joint, views, permutations, w_size, whiten)

        return ours, theirs

    return make


def cw_rgp_case(
    views: int, rows: int, size: int, w_size: int, groups: int
) -> Callable[[torch.device], tuple[Forward, Forward]]:
    """Return what makes ours and the loops for CW-RGP with one iteration."""

    def make(device: torch.device) -> tuple[Forward, Forward]:
        leaves, joint, permutations = _inputs(device, views, rows, size, 1)
        generator = torch.Generator().manual_seed(1)
        parts = rows // w_size
        orders = torch.stack([torch.randperm(size, generator=generator) for _ in range(parts * views)])
        orders = orders.view(1, parts, views, size).to(device)

        def of(order: list[int]) -> Whiten:
            return lambda x_nd: whiten_channels(x_nd, order, groups)

        whiten = [
            [[of(order) for order in of_views] for of_views in of_parts] for of_parts in orders.tolist()
        ]

        def ours() -> Tensor:
            _clear(leaves)
            return cw_rgp_loss(
                leaves,
                permutations=permutations,
                w_size=w_size,
                channel_permutations=orders,
                groups=groups,
            ).total

        def theirs() -> Tensor:
            _clear([joint])
            return loops(joint, views, permutations, w_size, whiten)

        return ours, theirs

    return make


CASES = [
    LossCase("W-MSE 512x64, w_size 128, 2 views", w_mse_case(2, 512, 64, 128, 1), required=3.5, aim=5.0),
    LossCase("W-MSE 256x64, w_size 128, 4 views", w_mse_case(4, 256, 64, 128, 1), required=3.5, aim=5.0),
    LossCase("W-MSE 512x128, w_size 256, w_iter 4", w_mse_case(2, 512, 128, 256, 4), required=2.0, aim=3.0),
    LossCase("CW-RGP 256x512, w_size 64, 4 groups, 4 views", cw_rgp_case(4, 256, 512, 64, 4), required=3.0),
]
"""What is timed here."""
