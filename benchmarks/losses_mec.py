"""MEC at 4096 rows of 256: ours beside the N x N matrix powers of the authors' formulation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loss_case import Forward, LossCase, fresh_leaves
from raysl.losses.mec import mec_loss

_ROWS, _DIMENSION, _ORDER, _EPS = 4096, 256, 4, 64.0


def _make(device: torch.device) -> tuple[Forward, Forward]:
    generator = torch.Generator().manual_seed(0)
    base_nd = torch.randn(_ROWS, _DIMENSION, generator=generator)
    noise = torch.randn(4, _ROWS, _DIMENSION, generator=generator)
    # The teacher's outputs need no gradient, as in training.
    views = [(base_nd + 0.5 * noise_nd).to(device) for noise_nd in noise]
    teacher, student = views[:2], fresh_leaves(*views[2:])
    lamda_inv = _ROWS * _EPS / _DIMENSION

    def ours() -> Tensor:
        _clear(student)
        return mec_loss(teacher, student, lamda_inv=lamda_inv, order=_ORDER).total

    def loops() -> Tensor:
        _clear(student)
        both = _one_direction(teacher[0], student[1], lamda_inv) + _one_direction(
            teacher[1], student[0], lamda_inv
        )
        return -lamda_inv * both / (2 * _ROWS)

    return ours, loops


def _one_direction(p_nd: Tensor, z_nd: Tensor, lamda_inv: float) -> Tensor:
    """Sum the powers of the N x N matrix of similarities and take the trace of the sum."""
    c_nn = F.normalize(p_nd) @ F.normalize(z_nd).T / lamda_inv
    power_nn, sum_nn = c_nn, torch.zeros_like(c_nn)
    for k in range(1, _ORDER + 1):
        if k > 1:
            power_nn = power_nn @ c_nn
        sum_nn = sum_nn + (-1) ** (k + 1) * power_nn / k
    return sum_nn.trace()


def _clear(leaves: list[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


CASES = [
    LossCase(
        name=f"MEC, order {_ORDER}, {_ROWS} x {_DIMENSION}",
        make=_make,
        required=50.0,
        memory=5.0,
    )
]
