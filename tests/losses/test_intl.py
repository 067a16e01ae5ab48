from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.intl import Axis, intl_loss, intl_m_loss, iterative_whitening, trace_loss, trade_off

AXES: list[Axis] = [0, 1]
SHAPES = [(8, 20), (20, 8), (9, 9)]


def _rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _views(count: int, rows: int, size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Views that agree in part."""
    base = _rand(rows, size)
    return [(base + 0.5 * _rand(rows, size, seed=seed)).to(dtype) for seed in range(1, count + 1)]


def _plain_whitening(x: Tensor, axis: Axis, iterations: int) -> Tensor:
    """The definition: the covariance of the axis, whatever its size, and powers one by one."""
    centred = x - x.mean(dim=1 - axis, keepdim=True)
    samples = centred.T if axis == 0 else centred
    covariance = samples.T @ samples / (len(samples) - 1)
    trace = covariance.trace()
    p = torch.eye(len(covariance), dtype=x.dtype)
    for _ in range(iterations):
        p = 1.5 * p - 0.5 * p @ p @ p @ (covariance / trace)
    whitened = samples @ p / trace.sqrt()
    return whitened.T if axis == 0 else whitened


def _plain_trace(y: Tensor, axis: Axis) -> Tensor:
    lines = y if axis == 0 else y.T
    total = y.new_zeros(())
    for line in lines:
        total = total + (((line - line.mean()) ** 2).sum() / (len(line) - 1) - 1) ** 2
    return total


def _plain_loss(views: list[Tensor], axis: Axis, iterations: int, beta: float, momentum: bool) -> Tensor:
    whitened = [_plain_whitening(view, axis, iterations) for view in views]
    total = views[0].new_zeros(())
    for t in whitened[1:]:
        total = total + 2 - 2 * F.cosine_similarity(t, whitened[0]).mean() + beta * _plain_trace(t, axis)
        if not momentum:
            total = total + beta * _plain_trace(whitened[0], axis)
    return total / (len(views) - 1)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterations", [1, 2, 4, 7])
def test_whitening_equals_the_definition(axis: Axis, shape: tuple[int, int], iterations: int) -> None:
    x = _rand(*shape) * 3 + 1
    ours = iterative_whitening(x, axis=axis, iterations=iterations)
    torch.testing.assert_close(ours, _plain_whitening(x, axis, iterations), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("momentum", [False, True])
def test_loss_and_gradient_equal_the_plain_loops(
    axis: Axis, shape: tuple[int, int], count: int, momentum: bool
) -> None:
    views = [view.requires_grad_() for view in _views(count, *shape)]
    expected = _plain_loss(views, axis, 4, 0.3, momentum)
    if momentum:
        loss = intl_m_loss(views[0], views[1:], beta=0.3, axis=axis)
    else:
        loss = intl_loss(views, beta=0.3, axis=axis)
    torch.testing.assert_close(loss.total, expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(loss.total, loss.mse + 0.3 * loss.trace)
    ours, theirs = (torch.autograd.grad(total, views) for total in (loss.total, expected))
    for mine, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-8, atol=1e-9 * float(plain.abs().max()))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_gradcheck(axis: Axis, shape: tuple[int, int]) -> None:
    views = [view.requires_grad_() for view in _views(3, *shape)]

    def total(*x: Tensor) -> Tensor:
        return intl_loss(x, beta=0.2, axis=axis, iterations=3).total

    def momentum(*x: Tensor) -> Tensor:
        return intl_m_loss(x[0], x[1:], beta=0.2, axis=axis, iterations=3).total

    def whitened(x: Tensor) -> Tensor:
        return iterative_whitening(x, axis=axis, iterations=3)

    assert torch.autograd.gradcheck(total, views)
    assert torch.autograd.gradcheck(momentum, views)
    assert torch.autograd.gradcheck(whitened, views[:1])


@pytest.mark.parametrize(("axis", "shape"), [(0, (6, 40)), (1, (40, 6))])
def test_many_iterations_whiten_and_the_trace_loss_vanishes(axis: Axis, shape: tuple[int, int]) -> None:
    y = iterative_whitening(_rand(*shape), axis=axis, iterations=20)
    samples = y.T if axis == 0 else y
    covariance = samples.T @ samples / (len(samples) - 1)
    torch.testing.assert_close(covariance, torch.eye(6, dtype=y.dtype), rtol=0, atol=1e-10)
    assert trace_loss(y, axis) < 1e-18
    assert trace_loss(iterative_whitening(_rand(*shape), axis=axis, iterations=2), axis) > 1e-3


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_invariances(axis: Axis, shape: tuple[int, int]) -> None:
    views = _views(3, *shape)
    reference = intl_loss(views, beta=0.3, axis=axis).total
    rows = torch.randperm(shape[0], generator=torch.Generator().manual_seed(0))
    offset = _rand(shape[0], 1, seed=7) if axis == 0 else _rand(1, shape[1], seed=7)
    changes: list[Callable[[Tensor], Tensor]] = [lambda x: x[rows], lambda x: 7 * x, lambda x: x + offset]
    if axis == 0:  # rows against each other: any rotation of what is left of the channels
        changes.append(lambda x: x @ _rotation_about_ones(shape[1]))
    for change in changes:
        changed = intl_loss([change(x) for x in views], beta=0.3, axis=axis).total
        torch.testing.assert_close(changed, reference, rtol=1e-10, atol=0)
    broken = intl_loss([views[0][rows], *views[1:]], beta=0.3, axis=axis).total
    assert abs(broken - reference) > 1e-3


def _rotation_about_ones(size: int) -> Tensor:
    """An orthogonal matrix that keeps the vector of ones, and with it the mean of a row."""
    basis = torch.linalg.qr(torch.cat([torch.ones(size, 1, dtype=torch.float64), _rand(size, size - 1)], 1)).Q
    inner = torch.eye(size, dtype=torch.float64)
    inner[1:, 1:] = torch.linalg.qr(_rand(size - 1, size - 1, seed=3)).Q
    rotation: Tensor = basis @ inner @ basis.T
    return rotation


def test_the_views_after_the_first_may_come_in_any_order_but_not_the_first() -> None:
    a, b, c = _views(3, 12, 30)
    total = intl_loss([a, b, c], beta=0.1).total
    torch.testing.assert_close(intl_loss([a, c, b], beta=0.1).total, total, rtol=1e-12, atol=0)
    assert abs(intl_loss([b, a, c], beta=0.1).total - total) > 1e-4


def test_the_key_has_no_trace_loss_and_needs_no_gradient() -> None:
    key, query, other = _views(3, 12, 30)
    queries = [query.requires_grad_(), other.requires_grad_()]
    loss = intl_m_loss(key, queries, beta=0.1)
    expected = torch.stack([trace_loss(iterative_whitening(q)) for q in queries]).mean()
    torch.testing.assert_close(loss.trace, expected, rtol=1e-10, atol=0)
    assert all(bool(grad.abs().max() > 0) for grad in torch.autograd.grad(loss.total, queries))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [(24, 64), (64, 24)])
def test_bfloat16_inputs_under_autocast_are_treated_as_float32(axis: Axis, shape: tuple[int, int]) -> None:
    views = [view.bfloat16().requires_grad_() for view in _views(3, *shape)]
    singles = [view.detach().float().requires_grad_() for view in views]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = intl_loss(views, beta=0.05, axis=axis).total
    whole = intl_loss(singles, beta=0.05, axis=axis).total
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, whole, rtol=1e-5, atol=0)
    for half, single in zip(
        torch.autograd.grad(halved, views), torch.autograd.grad(whole, singles), strict=True
    ):
        assert (half.float() - single).norm() < 1e-2 * single.norm()


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
@pytest.mark.parametrize("value", [0.0, 3.1], ids=["zeros", "constant"])
def test_one_constant_everywhere_is_finite_without_gradient(
    axis: Axis, shape: tuple[int, int], value: float
) -> None:
    views = [torch.full(shape, value, requires_grad=True) for _ in range(2)]
    loss = intl_loss(views, beta=0.1, axis=axis, with_condition=True)
    assert torch.isfinite(loss.total)
    assert float(loss.mse.detach()) == 2.0
    for gradient in torch.autograd.grad(loss.total, views):
        assert gradient.abs().max() == 0


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_equal_rows_are_finite_and_are_not_told_apart(axis: Axis, shape: tuple[int, int]) -> None:
    rows = [_rand(1, shape[1], seed=seed, dtype=torch.float32) for seed in (1, 2)]
    views = [row.repeat(shape[0], 1).requires_grad_() for row in rows]
    loss = intl_loss(views, beta=0.1, axis=axis).total
    assert torch.isfinite(loss)
    for gradient in torch.autograd.grad(loss, views):
        assert torch.isfinite(gradient).all()
        spread = (gradient - gradient.mean(dim=0)).abs().max()
        assert spread <= 1e-6 + 1e-5 * gradient.abs().max()


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_a_flat_row_or_column_gets_no_gradient(shape: tuple[int, int]) -> None:
    for axis in AXES:
        views = _views(2, *shape, dtype=torch.float32)
        flat = (slice(3, 4), slice(None)) if axis == 0 else (slice(None), slice(3, 4))
        views[1][flat] = 0.3
        views[1].requires_grad_()
        loss = intl_loss(views, beta=0.1, axis=axis).total
        (gradient,) = torch.autograd.grad(loss, views[1])
        assert torch.isfinite(loss)
        assert gradient[flat].abs().max() == 0
        assert 0 < gradient.abs().max() < 10


@pytest.mark.parametrize("axis", AXES)
def test_duplicated_rows_are_finite(axis: Axis) -> None:
    views = [torch.cat([view, view]).requires_grad_() for view in _views(2, 8, 40, torch.float32)]
    loss = intl_loss(views, beta=0.1, axis=axis, with_condition=True)
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(loss.total, views))
    assert loss.condition is not None
    assert float(loss.condition) > 1e6  # a singular covariance is told


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
@pytest.mark.parametrize("view", [0, 1])
def test_a_nan_makes_the_loss_nan(axis: Axis, shape: tuple[int, int], view: int) -> None:
    views = _views(2, *shape)
    views[view][5, 2] = math.nan
    loss = intl_loss(views, beta=0.1, axis=axis, with_condition=True)
    assert math.isnan(loss.total)
    assert math.isnan(intl_m_loss(views[0], views[1:], beta=0.1, axis=axis).total)
    assert loss.condition is not None
    assert math.isnan(loss.condition)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", SHAPES)
def test_condition_is_that_of_the_covariance_where_centring_leaves_one(
    axis: Axis, shape: tuple[int, int]
) -> None:
    views = _views(2, *shape)
    conditions = []
    for view in views:
        values = np.linalg.svd((view - view.mean(dim=1 - axis, keepdim=True)).numpy(), compute_uv=False)
        values = values[values > 1e-10 * values[0]]
        conditions.append(float((values[0] / values[-1]) ** 2))
    loss = intl_loss(views, beta=0.1, axis=axis, with_condition=True)
    assert loss.condition is not None
    assert float(loss.condition) == pytest.approx(max(conditions), rel=1e-6)
    assert intl_loss(views, beta=0.1, axis=axis).condition is None


def test_trade_off_follows_the_batch_or_the_embedding() -> None:
    assert trade_off(256, 8192, 0) == pytest.approx(0.05)
    assert trade_off(256, 8192, 1) == pytest.approx(0.10)
    assert trade_off(8, 8192, 0) == 0.0


def test_bad_input_is_named() -> None:
    views = _views(2, 8, 4)
    with pytest.raises(ValueError, match="two views or more, got 1"):
        intl_loss(views[:1], beta=0.1)
    with pytest.raises(ValueError, match="two views or more, got 1"):
        intl_m_loss(views[0], [], beta=0.1)
    with pytest.raises(ValueError, match=r"one shape .*\(8, 4\).*\(7, 4\)"):
        intl_loss([views[0], views[1][:7]], beta=0.1)
    with pytest.raises(ValueError, match=r"N >= 2 and D >= 2, got \(8, 1\)"):
        intl_loss([view[:, :1] for view in views], beta=0.1)
    with pytest.raises(ValueError, match="at least one iteration"):
        iterative_whitening(views[0], iterations=0)
    with pytest.raises(ValueError, match=r"axis is 0 .* or 1 .*, got 2"):
        iterative_whitening(views[0], axis=2)  # type: ignore[arg-type]
