"""Distances between all pairs of views, in closed form over the views.

Shapes: v views, d embedding size; the rows between them may have several dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SHORT = 1e-12


def pair_distance(y_v_d: Tensor, *, norm: bool) -> Tensor:
    """Mean distance over pairs of views i < j: of directions (`norm`) or of the rows as they are.

        norm:      2 - 2 mean over rows of cos(y_i, y_j)
        otherwise  mean over all elements of (y_i - y_j)^2

    Over the P = V (V - 1) / 2 pairs, with u rows of length one and y' the mean over views,

        sum cos(y_i, y_j) = sum_i u_i'(sum_j u_j - u_i) / 2,    sum |y_i - y_j|^2 = V sum_i |y_i - y'|^2

    A row shorter than 1e-12 has no direction: its cosines are 0, without gradient. A NaN makes it NaN.

    Args:
        y_v_d: two or more views, `(V, N, D)`, or `(V, ..., D)` with rows in several dimensions.
        norm: compare directions.

    Returns:
        A scalar.

    Raises:
        ValueError: fewer than two views.
    """
    views = len(y_v_d)
    if views < 2:
        raise ValueError(f"expected two or more views, got {views}")
    if norm:
        distance: Tensor = _CosineDistance.apply(y_v_d)
        return distance
    return (y_v_d - y_v_d.mean(0)).square().sum() * (2 / ((views - 1) * y_v_d[0].numel()))


class _CosineDistance(torch.autograd.Function):
    """The gradient is a row of y times one number and the row of the sum times another."""

    @staticmethod
    def forward(ctx: Any, y_v_d: Tensor) -> Tensor:
        views, rows = len(y_v_d), y_v_d[0, ..., 0].numel()
        length_v_1 = torch.linalg.vector_norm(y_v_d, dim=-1, keepdim=True)
        inverse_v_1 = length_v_1.reciprocal().masked_fill_(length_v_1 < _SHORT, 0)
        unit_v_d = y_v_d * inverse_v_1
        sum_d = unit_v_d.sum(0)
        # In place, because memory is what this costs.
        dot_v_1 = unit_v_d.mul_(sum_d).sum(-1, keepdim=True)
        factor = -2 / (views * (views - 1) / 2 * rows)
        total = dot_v_1.sum() - inverse_v_1.count_nonzero()
        ctx.save_for_backward(y_v_d, sum_d, factor * inverse_v_1, -factor * dot_v_1 * inverse_v_1.square())
        distance: Tensor = 2 + factor / 2 * total
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y_v_d, sum_d, of_sum_v_1, of_y_v_1 = ctx.saved_tensors
        grad_v_d: Tensor = (y_v_d * (of_y_v_1 * grad)).addcmul_(sum_d, of_sum_v_1 * grad)
        return grad_v_d
