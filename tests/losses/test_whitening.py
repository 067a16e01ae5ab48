from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from raysl.losses.whitening import OnSingular, SingularCovarianceError, Whitening, sub_batches, whiten

ROOTS: list[Whitening] = ["cholesky", "zca", "pca"]


def _rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _mixed(batches: int, rows: int, channels: int) -> Tensor:
    """Rows with correlated channels of unequal variance."""
    return _rand(batches, rows, channels) @ _rand(channels, channels, seed=1) + 3.0


def _orders(batches: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.stack([torch.randperm(channels, generator=generator) for _ in range(batches)])


def _loop(x: Tensor, kind: Whitening, axis: int, groups: int, eps: float, order: Tensor) -> Tensor:
    """One sub-batch by NumPy and SciPy, group by group; PCA up to the sign of its components."""
    centred = (x - x.mean(1 - axis, keepdim=True)).numpy()[:, order.numpy()]
    out = np.empty_like(centred)
    size = x.shape[1] // groups
    for group in range(groups):
        a = centred[:, group * size : (group + 1) * size]
        a = a if axis == 1 else a.T
        s = (1 - eps) * a.T @ a / (len(a) - 1) + eps * np.eye(a.shape[1])
        if kind == "cholesky":
            y = a @ np.linalg.inv(np.linalg.cholesky(s)).T
        elif kind == "zca":
            y = a @ np.linalg.inv(scipy.linalg.sqrtm(s).real)
        else:
            values, vectors = np.linalg.eigh(s)
            y = a @ vectors[:, ::-1] / np.sqrt(values[::-1])
        out[:, order.numpy()[group * size : (group + 1) * size]] = y if axis == 1 else y.T
    return torch.from_numpy(out)


@pytest.mark.parametrize("kind", ROOTS)
@pytest.mark.parametrize(("axis", "groups", "eps"), [(1, 1, 0.0), (1, 2, 0.1), (0, 1, 0.1), (0, 3, 0.0)])
def test_equals_the_loop_over_sub_batches_and_groups(
    kind: Whitening, axis: int, groups: int, eps: float
) -> None:
    x = _mixed(3, *((20, 6) if axis == 1 else (5, 36)))
    orders = _orders(3, x.shape[2])
    ours = whiten(x, kind=kind, axis=axis, groups=groups, eps=eps, channels_bd=orders).y_bnd
    loops = torch.stack(
        [_loop(one, kind, axis, groups, eps, order) for one, order in zip(x, orders, strict=True)]
    )
    if kind == "pca":
        ours, loops = ours.abs(), loops.abs()
    torch.testing.assert_close(ours, loops, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ROOTS)
def test_whitened_channels_are_uncorrelated_with_variance_one(kind: Whitening) -> None:
    y = whiten(_mixed(2, 40, 6), kind=kind).y_bnd
    for one in y:
        torch.testing.assert_close(torch.cov(one.T), torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ROOTS)
def test_scale_and_shift_do_not_matter_without_shrinkage(kind: Whitening) -> None:
    x = _mixed(2, 40, 6)
    torch.testing.assert_close(
        whiten(7.0 * x - 2.0, kind=kind).y_bnd, whiten(x, kind=kind).y_bnd, rtol=1e-9, atol=1e-10
    )


def test_zca_turns_with_its_input() -> None:
    x, turn = _mixed(2, 40, 6), torch.linalg.qr(_rand(6, 6, seed=3)).Q
    torch.testing.assert_close(
        whiten(x @ turn, kind="zca").y_bnd, whiten(x, kind="zca").y_bnd @ turn, rtol=1e-9, atol=1e-10
    )


def test_components_come_by_falling_variance_with_a_fixed_sign() -> None:
    x = _rand(2, 60, 3) @ torch.diag(torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64))
    y = whiten(x, kind="pca").y_bnd
    for one, whitened in zip(x, y, strict=True):
        for component, channel in enumerate((1, 2, 0)):
            assert torch.corrcoef(torch.stack([one[:, channel], whitened[:, component]]))[0, 1] > 0.9


def test_recentring_centres_each_row_over_its_group() -> None:
    x = _mixed(2, 4, 24)
    recentred, plain = (
        whiten(x, kind="zca", axis=0, groups=2, recentre=recentre).y_bnd.reshape(2, 4, 2, 12).mean(3)
        for recentre in (True, False)
    )
    assert recentred.abs().max() < 1e-12
    assert plain.abs().max() > 1e-3


def test_standardize_takes_the_diagonal_and_none_nothing() -> None:
    x = _mixed(2, 30, 5)
    expected = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    torch.testing.assert_close(whiten(x, kind="standardize").y_bnd, expected, rtol=1e-12, atol=1e-13)
    assert whiten(x, kind="none").y_bnd is x
    still = x.clone()
    still[:, :, 2] = 4.0
    assert (whiten(still, kind="standardize").y_bnd[:, :, 2] == 0).all()


@pytest.mark.parametrize("kind", [*ROOTS, "standardize"])
@pytest.mark.parametrize(("axis", "groups", "eps"), [(1, 1, 0.0), (1, 2, 0.1), (0, 2, 0.0), (0, 1, 0.1)])
def test_gradcheck(kind: Whitening, axis: int, groups: int, eps: float) -> None:
    x = _mixed(2, *((7, 4) if axis == 1 else (3, 10))).requires_grad_()
    orders = _orders(2, x.shape[2])

    def whitened(x: Tensor) -> Tensor:
        return whiten(x, kind=kind, axis=axis, groups=groups, eps=eps, channels_bd=orders).y_bnd

    assert torch.autograd.gradcheck(whitened, [x])


@pytest.mark.parametrize("kind", ["zca", "pca", "cholesky"])
def test_gradcheck_where_directions_are_missing(kind: Whitening) -> None:
    # Five rows of eight channels: four directions. Their squares, for PCA has no continuous sign.
    x = _rand(2, 5, 8).requires_grad_()

    def whitened(x: Tensor) -> Tensor:
        return whiten(x, kind=kind, on_singular="eigh").y_bnd.square()

    assert torch.autograd.gradcheck(whitened, [x], atol=1e-6)


def test_zca_gradient_with_equal_eigenvalues_is_exact() -> None:
    # Orthonormal centred columns: one eigenvalue four times, where torch's own eigh gives NaN.
    x = _rand(9, 4)
    leaf = torch.linalg.qr(x - x.mean(0)).Q[None].clone().requires_grad_()

    def whitened(x: Tensor) -> Tensor:
        return whiten(x, kind="zca", eps=0.2).y_bnd

    assert torch.autograd.gradcheck(whitened, [leaf])
    (gradient,) = torch.autograd.grad(whiten(leaf, kind="pca", eps=0.2).y_bnd.pow(3).sum(), leaf)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3


def test_pca_gradient_agrees_with_zcas_turned_into_components() -> None:
    # sum(y^4) of components whose eigenvalues are apart is smooth, so that differences can check it.
    x = (_rand(1, 12, 3) @ torch.diag(torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64))).requires_grad_()

    def objective(x: Tensor) -> Tensor:
        return whiten(x, kind="pca").y_bnd.pow(4).sum()

    assert torch.autograd.gradcheck(objective, [x])


@pytest.mark.parametrize("kind", ROOTS)
@pytest.mark.parametrize(
    "case", ["constant", "too few rows", "dependent channels", "duplicated rows", "one row of many"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_covariance_is_named_or_left_out(kind: Whitening, case: str, dtype: torch.dtype) -> None:
    x = _rand(2, 12, 6)
    if case == "constant":
        x[1] = 3.0
    elif case == "too few rows":
        x = x[:, :6]
    elif case == "dependent channels":
        x[1, :, 5] = x[1, :, 0] - 2 * x[1, :, 1]
    elif case == "duplicated rows":
        x[1] = x[1, :4].repeat(3, 1)
    else:
        x[1, 1:] = x[1, 1]
    x = x.to(dtype).requires_grad_()
    with pytest.raises(SingularCovarianceError, match=rf"w_size = {x.shape[1]} rows of d = 6 .* eps = 0;"):
        whiten(x, kind=kind)
    y, condition = whiten(x, kind=kind, on_singular="eigh")
    (gradient,) = torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), x)
    assert y.isfinite().all()
    assert gradient.isfinite().all()
    assert condition is not None
    assert condition > 1e5
    # What is there is white all the same, and what is not is zero.
    values = torch.linalg.eigvalsh(torch.cov(y[1].detach().double().T))
    assert (torch.minimum(values.abs(), (values - 1).abs()) < 1e-3).all()
    assert whiten(x, kind=kind, eps=0.1).y_bnd.isfinite().all()
    if case == "constant":
        assert gradient[1].abs().max() == 0


@pytest.mark.parametrize("kind", [*ROOTS, "standardize"])
@pytest.mark.parametrize("on_singular", ["error", "eigh"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("rows", [12, 4], ids=["enough rows", "too few rows"])
def test_what_is_not_finite_becomes_nan_and_no_other_error(
    kind: Whitening, on_singular: OnSingular, value: float, rows: int
) -> None:
    x = _rand(2, rows, 6)
    x[1, 3, 2] = value
    assert whiten(x, kind=kind, on_singular=on_singular).y_bnd.sum().isnan()


@pytest.mark.parametrize("kind", ROOTS)
def test_float32_is_accurate_where_the_covariance_is_badly_conditioned(kind: Whitening) -> None:
    scale = torch.logspace(0, -3, 8, dtype=torch.float64)
    x = ((_rand(2, 64, 8) * scale) @ torch.linalg.qr(_rand(8, 8, seed=1)).Q).float()

    def gradient(x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        y = whiten(leaf, kind=kind).y_bnd
        return torch.autograd.grad((y * _rand(2, 64, 8, seed=4).to(x.dtype)).sum(), leaf)[0]

    assert torch.linalg.cond(torch.cov(x[0].double().T)) > 1e5
    wanted = gradient(x.double())
    assert (gradient(x).double() - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("kind", ROOTS)
def test_condition(kind: Whitening) -> None:
    x = _mixed(3, 50, 5)
    condition = whiten(x, kind=kind).condition
    assert condition is not None
    assert not condition.requires_grad
    exact = max(float(torch.linalg.cond(torch.cov(one.T))) for one in x)
    if kind == "cholesky":
        inverse = torch.stack([torch.cov(one.T) for one in x]).inverse().diagonal(dim1=1, dim2=2)
        # The last channel's pivot is what all others leave unexplained of it.
        last = (torch.stack([torch.cov(one.T) for one in x]).diagonal(dim1=1, dim2=2) * inverse)[:, -1].amax()
        assert float(last) * (1 - 1e-9) <= float(condition) <= exact
    else:
        assert float(condition) == pytest.approx(exact, rel=1e-6)


def test_sub_batches_by_hand_and_their_gradient() -> None:
    x = _rand(2, 6, 3).requires_grad_()
    permutations = torch.tensor([[5, 0, 3, 1, 4, 2], [0, 2, 1, 5, 3, 4]])
    parts = sub_batches(x, permutations.to(torch.int16), 3)
    assert parts.shape == (2 * 2 * 2, 3, 3)
    assert torch.equal(parts[0], x[0, [5, 0, 3]])
    assert torch.equal(parts[3], x[0, [5, 3, 4]])
    assert torch.equal(parts[6], x[1, [0, 2, 1]])
    assert torch.autograd.gradcheck(lambda x: sub_batches(x, permutations, 3), [x])


def test_bad_input_is_named() -> None:
    x = _rand(2, 8, 6)
    with pytest.raises(ValueError, match="groups must divide the 6 channels, got 4"):
        whiten(x, groups=4)
    with pytest.raises(ValueError, match=r"axis must be 0 .* got 2"):
        whiten(x, axis=2)
    with pytest.raises(ValueError, match=r"eps must be at least 0 and below 1, got 1\.0"):
        whiten(x, eps=1.0)
    with pytest.raises(ValueError, match="more than 1 observations to whiten by, got 1"):
        whiten(x, axis=0, groups=6)
    with pytest.raises(ValueError, match="permutations of 6 channels"):
        whiten(x, channels_bd=_orders(2, 5))
    with pytest.raises(ValueError, match="divide the 8 rows, got 3"):
        sub_batches(x, torch.arange(8)[None], 3)
    with pytest.raises(ValueError, match=r"permutations \(w_iter, 8\), got \(1, 7\)"):
        sub_batches(x, torch.arange(7)[None], 4)
