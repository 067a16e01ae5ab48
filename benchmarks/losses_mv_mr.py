"""MV-MR beside its authors' formulation, which computes both distance matrices for every representation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loss_case import Forward, LossCase, fresh_leaves
from raysl.losses.mv_mr import mv_mr_loss

# Values of pixels, scattering, an augmented image, gradient histograms and local std of 32x32 RGB images.
_SIZES = (3072, 15552, 3072, 1152, 3072)


def _centred(x: Tensor) -> Tensor:
    squares = x.pow(2).sum(dim=1, keepdim=True)
    distances = torch.sqrt(torch.clamp(squares - 2 * x @ x.t() + squares.t(), min=1e-4))
    rows, columns = distances.mean(dim=1, keepdim=True), distances.mean(dim=0, keepdim=True)
    return distances - rows - columns + distances.mean()


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    a, b = _centred(x), _centred(y)
    covariance = torch.sqrt((a * b).sum() / len(x) ** 2)
    variances = [torch.sqrt((c * c).sum() / len(x) ** 2) for c in (a, b)]
    return covariance / torch.sqrt(variances[0] * variances[1])


def _loss_loop(z_o: Tensor, z: Tensor, representations: list[Tensor]) -> Tensor:
    loss = F.mse_loss(z_o, z)
    for x in (z, z_o):
        loss = loss + torch.relu(1 - x.std(dim=0)).mean()
    loss = loss + 1 - _correlation(z_o / 32, z / 32)
    for representation in representations:
        loss = loss + 1 - _correlation(representation, z / 32)
    return loss


def _make(rows: int, size: int, device: torch.device) -> tuple[Forward, Forward]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, size, generator=generator)
    noise = torch.randn(2, rows, size, generator=generator)
    leaves = fresh_leaves(*[(base + 0.5 * each).to(device) for each in noise])
    representations = [torch.randn(rows, wide, generator=generator).to(device) / 32 for wide in _SIZES]

    def ours() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        return mv_mr_loss(leaves[0], leaves[1], ((str(i), r) for i, r in enumerate(representations))).total

    def loops() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        return _loss_loop(leaves[0], leaves[1], representations)

    return ours, loops


CASES = [
    LossCase(
        "distance correlation over 5 representations, 256x2048", lambda device: _make(256, 2048, device)
    ),
    LossCase(
        "distance correlation over 5 representations, 256x8192", lambda device: _make(256, 8192, device)
    ),
]
