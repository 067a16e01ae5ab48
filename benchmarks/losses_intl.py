"""INTL beside its authors' formulation, whitened view by view with a batched product for each power."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loss_case import Forward, LossCase, fresh_leaves
from raysl.losses.intl import intl_loss, trade_off


def _whiten_loop(x: Tensor, iterations: int) -> Tensor:
    """Whiten channels (axis 0): every power of P is a product of its own, from P = I on."""
    centred = (x - x.mean(dim=1, keepdim=True)).t().unsqueeze(0)
    eye = torch.eye(len(x), dtype=x.dtype, device=x.device).unsqueeze(0)
    covariance = torch.bmm(centred.transpose(1, 2), centred) / (x.shape[1] - 1)
    trace = covariance.diagonal(dim1=1, dim2=2).sum(-1).view(1, 1, 1)
    normalised = covariance * trace.reciprocal()
    p = eye
    for _ in range(iterations):
        p = torch.baddbmm(p, torch.matrix_power(p, 3), normalised, beta=1.5, alpha=-0.5)
    return torch.bmm(centred, p * trace.reciprocal().sqrt()).squeeze(0).t()


def _trace_loop(y: Tensor) -> Tensor:
    columns = y.t()
    centred = columns - columns.mean(dim=0)
    return (centred.pow(2).sum(0) / (len(columns) - 1) - 1).pow(2).sum()


def _loss_loop(views: list[Tensor], beta: float, iterations: int) -> Tensor:
    whitened = [_whiten_loop(view, iterations) for view in views]
    traces = [_trace_loop(y) for y in whitened]
    total = views[0].new_zeros(())
    for view in range(1, len(views)):
        cosine = (F.normalize(whitened[view]) * F.normalize(whitened[0])).sum(dim=-1).mean()
        total = total + 2 - 2 * cosine + beta * (traces[view] + traces[0])
    return total / (len(views) - 1)


def _make(rows: int, size: int, count: int, device: torch.device) -> tuple[Forward, Forward]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, size, generator=generator)
    noise = torch.randn(count, rows, size, generator=generator)
    views = fresh_leaves(*[(base + 0.5 * each).to(device) for each in noise])
    beta = trade_off(rows, size)

    def ours() -> Tensor:
        for view in views:
            view.grad = None
        return intl_loss(views, beta=beta, iterations=4).total

    def loops() -> Tensor:
        for view in views:
            view.grad = None
        return _loss_loop(views, beta, iterations=4)

    return ours, loops


CASES = [
    LossCase("INTL 256x2048, 2 views", lambda device: _make(256, 2048, 2, device), required=1.0, aim=1.5),
    LossCase("INTL 256x8192, 6 views", lambda device: _make(256, 8192, 6, device)),
]
