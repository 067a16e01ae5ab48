from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.mec import mec_loss

SHAPES = pytest.mark.parametrize(("rows", "size"), [(12, 5), (6, 6), (5, 9)], ids=["n>d", "n=d", "n<d"])


def _rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _views(rows: int, size: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], list[Tensor]]:
    """Teacher and student outputs of two views that agree in part."""
    base = _rand(rows, size)
    made = [(base + 0.5 * _rand(rows, size, seed=seed)).to(dtype) for seed in range(1, 5)]
    return made[:2], made[2:]


def _by_powers(p: Tensor, z: Tensor, lamda_inv: float, order: int) -> Tensor:
    """The authors' form: powers of the N x N matrix."""
    c = F.normalize(p) @ F.normalize(z).T / lamda_inv
    terms = [(-1) ** (k + 1) / k * torch.linalg.matrix_power(c, k).trace() for k in range(1, order + 1)]
    return torch.stack(terms).sum()


@SHAPES
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8])
def test_equals_the_powers_of_the_matrix_of_similarities(rows: int, size: int, order: int) -> None:
    (p1, p2), (z1, z2) = _views(rows, size)
    loss = mec_loss([p1, p2], [z1, z2], lamda_inv=3.0, order=order)
    mec = (_by_powers(p1, z2, 3.0, order) + _by_powers(p2, z1, 3.0, order)) / (2 * rows)
    torch.testing.assert_close(loss.total, -3.0 * mec, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(loss.coding_length, mec * (rows + size) / 2, rtol=1e-12, atol=1e-13)
    assert not loss.coding_length.requires_grad


def test_a_long_series_is_the_log_determinant() -> None:
    (p1, p2), (z1, z2) = _views(32, 6)
    identity = torch.eye(32, dtype=torch.float64)
    logdets = [
        torch.linalg.slogdet(identity + F.normalize(p) @ F.normalize(z).T / 32.0).logabsdet
        for p, z in ((p1, z2), (p2, z1))
    ]
    loss = mec_loss([p1, p2], [z1, z2], lamda_inv=32.0, order=40).total
    torch.testing.assert_close(loss, -32.0 * torch.stack(logdets).sum() / 64, rtol=1e-10, atol=0)


@SHAPES
@pytest.mark.parametrize("order", [1, 3, 4])
def test_gradcheck(rows: int, size: int, order: int) -> None:
    teacher, student = _views(rows, size)
    inputs = [x.requires_grad_() for x in (*teacher, *student)]
    assert torch.autograd.gradcheck(
        lambda *x: mec_loss(x[:2], x[2:], lamda_inv=2.0, order=order).total, inputs
    )


@SHAPES
def test_invariances(rows: int, size: int) -> None:
    teacher, student = _views(rows, size)
    reference = mec_loss(teacher, student, lamda_inv=2.0).total
    order = torch.arange(rows).roll(1)
    rotation = torch.linalg.qr(_rand(size, size)).Q
    lengths = _rand(rows, 1).abs() + 0.1
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda x: x[order],
        lambda x: x @ rotation,
        lambda x: x * lengths,
    ]
    for change in changes:
        changed = mec_loss([change(x) for x in teacher], [change(x) for x in student], lamda_inv=2.0).total
        torch.testing.assert_close(changed, reference, rtol=1e-12, atol=0)
    swapped = mec_loss(teacher[::-1], student[::-1], lamda_inv=2.0).total
    torch.testing.assert_close(swapped, reference, rtol=1e-12, atol=0)
    # Rows of one side alone may not move: the pairs would break.
    assert abs(mec_loss([x[order] for x in teacher], student, lamda_inv=2.0).total - reference) > 1e-3


@pytest.mark.parametrize("rows", [16, 3], ids=["n>d", "n<d"])
def test_the_loss_of_a_batch_repeated_is_the_same_when_lamda_inv_follows(rows: int) -> None:
    teacher, student = _views(rows, 8)
    twice = [[torch.cat([x, x]) for x in side] for side in (teacher, student)]
    once = mec_loss(teacher, student, lamda_inv=rows * 64 / 8).total
    doubled = mec_loss(*twice, lamda_inv=2 * rows * 64 / 8).total
    torch.testing.assert_close(doubled, once, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rows", [96, 16], ids=["n>d", "n<d"])
def test_bfloat16_outputs_under_autocast_are_computed_in_float32(rows: int) -> None:
    sides = _views(rows, 32, torch.bfloat16)
    plain = mec_loss(*([x.float() for x in side] for side in sides), lamda_inv=8.0).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mec_loss(*sides, lamda_inv=8.0).total
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=0)


@pytest.mark.parametrize("rows", [16, 5], ids=["n>d", "n<d"])
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["zeros", "constant"])
def test_constant_embeddings_are_finite_without_gradient(rows: int, fill: float) -> None:
    teacher = [torch.full((rows, 8), fill, dtype=torch.float64)] * 2
    student = [torch.full((rows, 8), fill, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    loss = mec_loss(teacher, student, lamda_inv=4.0).total
    assert torch.isfinite(loss)
    for gradient in torch.autograd.grad(loss, student):
        assert gradient.abs().max() < 1e-12


def test_one_zero_row_gets_no_gradient() -> None:
    teacher, student = _views(16, 8, torch.float32)
    student[0][3] = 0
    student[0].requires_grad_()
    (gradient,) = torch.autograd.grad(mec_loss(teacher, student, lamda_inv=4.0).total, student[0])
    assert gradient[3].abs().max() == 0
    assert 0 < gradient.abs().max() < 1


@pytest.mark.parametrize("rows", [16, 5], ids=["n>d", "n<d"])
@pytest.mark.parametrize("side", [0, 1], ids=["teacher", "student"])
def test_a_nan_row_makes_the_loss_nan(rows: int, side: int) -> None:
    sides = _views(rows, 8)
    sides[side][0][3] = math.nan
    assert math.isnan(mec_loss(*sides, lamda_inv=4.0, order=1).total)
    loss = mec_loss(*sides, lamda_inv=4.0, with_radius=True)
    assert math.isnan(loss.total)
    assert loss.radius is not None
    assert math.isnan(loss.radius)


@SHAPES
def test_the_radius_is_the_largest_eigenvalue_of_either_matrix(rows: int, size: int) -> None:
    (p1, p2), (z1, z2) = _views(rows, size)
    eigenvalues = [
        np.abs(np.linalg.eigvals((F.normalize(p) @ F.normalize(z).T / 2.0).numpy())).max()
        for p, z in ((p1, z2), (p2, z1))
    ]
    z1.requires_grad_()
    loss = mec_loss([p1, p2], [z1, z2], lamda_inv=2.0, with_radius=True)
    assert loss.radius is not None
    assert not loss.radius.requires_grad
    assert float(loss.radius) == pytest.approx(max(eigenvalues), rel=1e-2)
    assert mec_loss([p1, p2], [z1, z2], lamda_inv=2.0).radius is None


def test_bad_input_is_named() -> None:
    teacher, student = _views(8, 4)
    with pytest.raises(ValueError, match="two views of each, got 2 and 1"):
        mec_loss(teacher, student[:1], lamda_inv=1.0)
    with pytest.raises(ValueError, match=r"one shape \(N, D\) with N >= 2, got .*\(8, 4\).*\(7, 4\)"):
        mec_loss(teacher, [student[0], student[1][:7]], lamda_inv=1.0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        mec_loss(teacher, student, lamda_inv=1.0, order=0)
    with pytest.raises(ValueError, match="lamda_inv must be positive, got nan"):
        mec_loss(teacher, student, lamda_inv=math.nan)
