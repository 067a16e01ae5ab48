from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.redundancy import barlow_twins_loss, vicreg_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def _barlow(x: Tensor, y: Tensor) -> Tensor:
    return barlow_twins_loss(x, y, lam=0.1).total


def _vicreg(x: Tensor, y: Tensor) -> Tensor:
    return vicreg_loss(x, y, invariance=2.0, variance=3.0, covariance=0.5).total


every_loss = pytest.mark.parametrize("loss", [_barlow, _vicreg], ids=["barlow", "vicreg"])
# Of 2 N >= D and 2 N < D the second takes the N x N form.
SHAPES = pytest.mark.parametrize(("rows", "size"), [(12, 5), (6, 9), (4, 11)])


def _pair(rows: int, size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, rows, size, generator=generator, dtype=torch.float64)
    x, y = (0.7 * (base + 0.5 * noise) + 0.3).to(dtype)
    return x, y


@SHAPES
@pytest.mark.parametrize("reference_exact", [False, True])
def test_barlow_twins_equals_its_definition_entry_by_entry(
    rows: int, size: int, reference_exact: bool
) -> None:
    x, y = _pair(rows, size)
    a, b = (F.batch_norm(view, None, None, training=True) for view in (x, y))
    diagonal = off_diagonal = 0.0
    for i in range(size):
        for j in range(size):
            c = float(a[:, i] @ b[:, j]) / (size if reference_exact else rows)
            diagonal += (c - 1) ** 2 if i == j else 0.0
            off_diagonal += c**2 if i != j else 0.0
    loss = barlow_twins_loss(x, y, lam=0.1, reference_exact=reference_exact)
    assert float(loss.diagonal) == pytest.approx(diagonal, rel=1e-12)
    assert float(loss.off_diagonal) == pytest.approx(off_diagonal, rel=1e-11)
    assert float(loss.total) == pytest.approx(diagonal + 0.1 * off_diagonal, rel=1e-12)
    given = barlow_twins_loss(a, b, lam=0.1, standardize=False, reference_exact=reference_exact)
    torch.testing.assert_close(given.total, loss.total, rtol=1e-12, atol=0)


@SHAPES
@pytest.mark.parametrize("reference_exact", [False, True])
def test_vicreg_equals_its_definition(rows: int, size: int, reference_exact: bool) -> None:
    x, y = _pair(rows, size)
    hinge = covariance = 0.0
    for view in (x, y):
        hinge += float((1 - (view.var(dim=0) + 1e-4).sqrt()).clamp(min=0).mean())
        c = torch.cov(view.T)
        covariance += float((c - c.diag().diag()).square().sum()) / size
    loss = vicreg_loss(x, y, invariance=2.0, variance=3.0, covariance=0.5, reference_exact=reference_exact)
    expected = (F.mse_loss(x, y).item(), hinge * (1.0 if reference_exact else 0.5), covariance)
    assert (float(loss.invariance), float(loss.variance)) == pytest.approx(expected[:2], rel=1e-12)
    assert float(loss.covariance) == pytest.approx(covariance, rel=1e-11)
    assert float(loss.total) == pytest.approx(2 * expected[0] + 3 * expected[1] + 0.5 * expected[2])
    assert hinge > 0


@every_loss
@SHAPES
def test_gradcheck(loss: Loss, rows: int, size: int) -> None:
    inputs = [view.requires_grad_() for view in _pair(rows, size)]
    assert torch.autograd.gradcheck(loss, inputs)


@every_loss
@SHAPES
def test_invariances(loss: Loss, rows: int, size: int) -> None:
    x, y = _pair(rows, size)
    reference = loss(x, y)
    generator = torch.Generator().manual_seed(1)
    rows_mixed, columns_mixed = (torch.randperm(count, generator=generator) for count in (rows, size))
    scales = torch.rand(size, generator=generator, dtype=torch.float64) + 10
    changes: list[Callable[[Tensor], Tensor]] = [lambda v: v[rows_mixed], lambda v: v[:, columns_mixed]]
    changes.append((lambda v: 1e3 * v * scales + scales) if loss is _barlow else (lambda v: v + scales))
    for number, change in enumerate(changes):
        # Scaling is exact but for the 1e-5 that is added to the variance.
        tolerance = 1e-4 if loss is _barlow and number == 2 else 1e-12
        torch.testing.assert_close(loss(change(x), change(y)), reference, rtol=tolerance, atol=0)
    torch.testing.assert_close(loss(y, x), reference, rtol=1e-12, atol=0)
    assert abs(loss(x[torch.arange(rows).roll(1)], y) - reference) > 1e-3


@every_loss
@pytest.mark.parametrize("rows", [64, 12], ids=["d x d", "n x n"])
def test_the_smaller_side_is_as_accurate_in_float32(loss: Loss, rows: int) -> None:
    # A batch whose dimensions are all but uncorrelated, as late in training.
    x = torch.linalg.qr(_pair(rows, rows)[0]).Q
    x = torch.cat([x, x.roll(1, 0), x.flip(0)], dim=1)[:, : 32 if rows == 64 else 36] * rows**0.5
    y = x + 0.01 * _pair(rows, x.shape[1])[0]
    expected = loss(x, y)
    inputs = [view.float().requires_grad_() for view in (x, y)]
    value = loss(*inputs)
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, inputs[0])
    (exact,) = torch.autograd.grad(loss(x.requires_grad_(), y), x)
    assert (gradient - exact).abs().max() < 1e-4 * exact.abs().max()


@every_loss
@pytest.mark.parametrize("rows", [96, 12], ids=["d x d", "n x n"])
def test_bfloat16_outputs_under_autocast_are_computed_in_float32(loss: Loss, rows: int) -> None:
    x, y = _pair(rows, 32, torch.bfloat16)
    plain = loss(x.float(), y.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)


@every_loss
@pytest.mark.parametrize("rows", [16, 3], ids=["d x d", "n x n"])
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["zeros", "constant"])
def test_constant_embeddings_are_finite_without_gradient(loss: Loss, rows: int, fill: float) -> None:
    views = [torch.full((rows, 8), fill, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    value = loss(*views)
    assert float(value.detach()) == pytest.approx(8.0 if loss is _barlow else 3 * 0.99)
    for gradient in torch.autograd.grad(value, views):
        assert gradient.abs().max() < 1e-12


def test_one_constant_dimension_gets_no_gradient() -> None:
    x, y = _pair(16, 4)
    x[:, 2] = y[:, 2] = 5.0
    inputs = [x.requires_grad_(), y.requires_grad_()]
    for gradient in torch.autograd.grad(_barlow(*inputs), inputs):
        assert gradient[:, 2].abs().max() < 1e-12
        assert 0 < gradient.abs().max() < 1


def test_duplicated_rows_change_nothing_in_barlow_twins() -> None:
    x, y = _pair(8, 4)
    doubled = _barlow(torch.cat([x, x]), torch.cat([y, y]))
    torch.testing.assert_close(doubled, _barlow(x, y), rtol=1e-12, atol=0)


def test_duplicated_rows_change_only_the_unbiased_divisor_in_vicreg() -> None:
    x, y = _pair(8, 4)
    once, doubled = vicreg_loss(x, y), vicreg_loss(torch.cat([x, x]), torch.cat([y, y]))
    torch.testing.assert_close(doubled.invariance, once.invariance, rtol=1e-12, atol=0)
    ratio = (2 * 7 / 15) ** 2
    torch.testing.assert_close(doubled.covariance, ratio * once.covariance, rtol=1e-12, atol=0)


@every_loss
@pytest.mark.parametrize("rows", [16, 3], ids=["d x d", "n x n"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_nan_row_makes_the_loss_nan(loss: Loss, rows: int, side: int) -> None:
    views = _pair(rows, 8)
    views[side][1] = math.nan
    assert math.isnan(loss(*views))


@every_loss
def test_bad_input_is_named(loss: Loss) -> None:
    x, y = _pair(8, 4)
    with pytest.raises(ValueError, match=r"got .*\(8, 4\).*\(6, 4\)"):
        loss(x, y[:6])
    with pytest.raises(ValueError, match="N >= 2"):
        loss(x[:1], y[:1])
