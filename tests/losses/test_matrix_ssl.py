from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from raysl.losses.matrix_ssl import (
    cross_covariance,
    matrix_log,
    matrix_ssl_loss,
    symmetric_log,
    taylor_radius,
    trace_log,
    trace_product_log,
)

ORDERS = [1, 2, 3, 4, 5, 8, None]


def _rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _views(rows: int, size: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], list[Tensor]]:
    """Teacher and student outputs of two views that agree in part."""
    base = _rand(rows, size)
    made = [(base + 0.5 * _rand(rows, size, seed=seed)).to(dtype) for seed in range(1, 5)]
    return made[:2], made[2:]


def _positive(size: int, seed: int = 0) -> Tensor:
    factor = _rand(size, 2 * size, seed=seed)
    return factor @ factor.T / (2 * size) * 0.5 + 0.3 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8, 9])
def test_split_series_equals_the_plain_sum(order: int) -> None:
    q, a = _positive(6), _rand(6, 6, seed=1)
    e = q - torch.eye(6, dtype=torch.float64)
    terms = [(-1) ** (k + 1) / k * torch.linalg.matrix_power(e, k) for k in range(1, order + 1)]
    expected = torch.stack(terms).sum(0)
    torch.testing.assert_close(matrix_log(q, order), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(trace_log(q, order), expected.trace(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(trace_product_log(a, q, order), (a @ expected).trace(), rtol=1e-12, atol=1e-13)


def test_exact_symmetric_logarithm_is_scipys() -> None:
    q, a = _positive(7), _rand(7, 7, seed=1)
    expected = torch.from_numpy(scipy.linalg.logm(q.numpy()).real)
    torch.testing.assert_close(symmetric_log(q), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(trace_product_log(a, q, None), (a @ expected).trace(), rtol=1e-10, atol=1e-12)


def test_exact_trace_of_a_non_symmetric_matrix_is_scipys() -> None:
    q = torch.eye(7, dtype=torch.float64) + 0.3 * _rand(7, 7)
    eigenvalues = np.linalg.eigvals(q.numpy())
    assert np.abs(eigenvalues.imag).max() > 0.1  # the case has complex pairs
    expected = float(np.trace(scipy.linalg.logm(q.numpy())).real)
    assert float(trace_log(q, None)) == pytest.approx(expected, rel=1e-12)


def test_exact_trace_is_nan_where_no_real_logarithm_exists() -> None:
    assert math.isnan(trace_log(torch.diag(torch.tensor([1.0, -1.0])), None))
    assert math.isnan(trace_log(torch.diag(torch.tensor([1.0, 0.0])), None))


def test_taylor_converges_to_the_exact_loss() -> None:
    teacher, student = _views(64, 8)
    exact = matrix_ssl_loss(teacher, student, mu=0.8, order=None)
    far, near = (matrix_ssl_loss(teacher, student, mu=0.8, order=order) for order in (4, 60))
    for name in ("total", "correlation", "alignment"):
        assert abs(getattr(near, name) - getattr(exact, name)) < 1e-12
        assert abs(getattr(far, name) - getattr(exact, name)) > 1e-6


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rows", [9, 4], ids=["n>d", "n<d"])
def test_gradcheck(order: int | None, rows: int) -> None:
    teacher, student = _views(rows, 6)
    inputs = [x.requires_grad_() for x in (*teacher, *student)]

    def total(*x: Tensor) -> Tensor:
        return matrix_ssl_loss(x[:2], x[2:], lam=0.7, mu=0.6, gamma=1.3, order=order).total

    assert torch.autograd.gradcheck(total, inputs)


def test_symmetric_log_gradient_with_equal_eigenvalues() -> None:
    # A rank-two covariance plus 0.5 I: four equal eigenvalues, where torch's own eigh gives NaN.
    factor = _rand(6, 2).requires_grad_()

    def log(x: Tensor) -> Tensor:
        return symmetric_log(x @ x.T / 6 + 0.5 * torch.eye(6, dtype=x.dtype))

    assert torch.autograd.gradcheck(log, [factor])


def test_parts_add_up_and_gamma_only_weighs_alignment() -> None:
    teacher, student = _views(32, 8)
    one, two = (matrix_ssl_loss(teacher, student, lam=1.5, gamma=gamma) for gamma in (1.0, 2.5))
    assert one.alignment == two.alignment
    assert one.correlation == two.correlation
    torch.testing.assert_close(two.total, two.correlation + 2.5 * two.alignment)
    torch.testing.assert_close(
        one.correlation, 3 * matrix_ssl_loss(teacher, student, lam=0.5).correlation, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("order", [4, None])
def test_invariances(order: int | None) -> None:
    teacher, student = _views(32, 8)
    reference = matrix_ssl_loss(teacher, student, order=order).total
    permutation = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(_rand(8, 8)).Q
    lengths = _rand(32, 1).abs() + 0.1
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda x: x[permutation],
        lambda x: x @ rotation,
        lambda x: x * lengths,
    ]
    for change in changes:
        changed = matrix_ssl_loss([change(x) for x in teacher], [change(x) for x in student], order=order)
        torch.testing.assert_close(changed.total, reference, rtol=1e-12, atol=0)
    # Rows of one side alone may not move: the pairs would break.
    broken = matrix_ssl_loss([x[permutation] for x in teacher], student, order=order).total
    assert abs(broken - reference) > 1e-3


@pytest.mark.parametrize("order", [4, None])
def test_bfloat16_autocast_stays_near_float32(order: int | None) -> None:
    teacher, student = _views(128, 32, torch.float32)
    weight = (_rand(32, 32, seed=9) / 6).float().requires_grad_()

    def loss_and_gradient(autocast: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            outputs = [x @ weight for x in student]
            assert outputs[0].dtype == (torch.bfloat16 if autocast else torch.float32)
            loss = matrix_ssl_loss(teacher, outputs, order=order).total
        assert loss.dtype == torch.float32
        return loss, torch.autograd.grad(loss, weight)[0]

    (value, gradient), (value_16, gradient_16) = loss_and_gradient(False), loss_and_gradient(True)
    torch.testing.assert_close(value_16, value, rtol=1e-3, atol=0)
    assert (gradient_16 - gradient).norm() < 2e-2 * gradient.norm()


@pytest.mark.parametrize("order", [4, None])
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["zeros", "constant"])
def test_constant_embeddings_are_finite_without_gradient(order: int | None, fill: float) -> None:
    teacher = [torch.full((16, 8), fill, dtype=torch.float64)] * 2
    student = [torch.full((16, 8), fill, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    loss = matrix_ssl_loss(teacher, student, mu=0.5, order=order).total
    assert torch.isfinite(loss)
    for gradient in torch.autograd.grad(loss, student):
        assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("order", [4, None])
def test_one_zero_row_gets_no_gradient(order: int | None) -> None:
    teacher, student = _views(16, 8, torch.float32)
    student[0][3] = 0
    student[0].requires_grad_()
    loss = matrix_ssl_loss(teacher, student, order=order).total
    (gradient,) = torch.autograd.grad(loss, student[0])
    assert torch.isfinite(loss)
    assert gradient[3].abs().max() == 0
    assert 0 < gradient.abs().max() < 1


@pytest.mark.parametrize("order", [4, None])
def test_duplicated_rows_change_nothing(order: int | None) -> None:
    teacher, student = _views(16, 8)
    twice = [[torch.cat([x, x]) for x in side] for side in (teacher, student)]
    expected = matrix_ssl_loss(teacher, student, order=order).total
    torch.testing.assert_close(matrix_ssl_loss(*twice, order=order).total, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [1, 4])
@pytest.mark.parametrize("side", [0, 1], ids=["teacher", "student"])
def test_a_nan_row_makes_the_loss_nan(order: int, side: int) -> None:
    sides = _views(16, 8)
    sides[side][0][5] = math.nan
    loss = matrix_ssl_loss(*sides, order=order, with_radius=True)
    assert math.isnan(loss.total)
    assert loss.radius is not None
    assert math.isnan(loss.radius)


def test_radius_is_the_largest_eigenvalue() -> None:
    for seed in range(5):
        q = torch.eye(24, dtype=torch.float64) + 0.2 * _rand(24, 24, seed=seed)
        expected = np.abs(np.linalg.eigvals(q.numpy() - np.eye(24))).max()
        assert expected <= float(taylor_radius(q)) * (1 + 1e-12) < 1.01 * expected
    assert float(taylor_radius(torch.eye(3))) == 0.0
    assert float(taylor_radius(torch.diag(torch.tensor([1.0, 3.5])))) == pytest.approx(2.5, rel=1e-3)


def test_radius_of_the_loss_covers_every_logarithm() -> None:
    teacher, student = _views(48, 8)
    student[0].requires_grad_()
    loss = matrix_ssl_loss(teacher, student, mu=0.4, with_radius=True)
    shift = 0.4 * torch.eye(8, dtype=torch.float64) - torch.eye(8, dtype=torch.float64)
    (p1, p2), (z1, z2) = teacher, student
    pairs = ((p2, z1), (p1, z2), (z1, z1), (z2, z2))
    eigenvalues = [torch.linalg.eigvals(cross_covariance(a, b).detach() + shift) for a, b in pairs]
    expected = max(float(values.abs().max()) for values in eigenvalues)
    assert loss.radius is not None
    assert not loss.radius.requires_grad
    assert float(loss.radius) == pytest.approx(expected, rel=1e-2)
    assert matrix_ssl_loss(teacher, student).radius is None


def test_bad_input_is_named() -> None:
    teacher, student = _views(8, 4)
    with pytest.raises(ValueError, match=r"one shape \(N, D\) with N >= 2, got .*\(8, 4\).*\(7, 4\)"):
        matrix_ssl_loss(teacher, [student[0], student[1][:7]])
    with pytest.raises(ValueError, match="two views of each, got 2 and 1"):
        matrix_ssl_loss(teacher, student[:1])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        matrix_ssl_loss(teacher, student, order=0)
    with pytest.raises(ValueError, match="N >= 2"):
        cross_covariance(teacher[0][:1], teacher[1][:1])
