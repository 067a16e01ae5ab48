from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.pairs import pair_distance
from raysl.losses.w_mse import w_mse_loss
from raysl.losses.whitening import SingularCovarianceError


def _rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _views(count: int, rows: int, size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Views that agree in part."""
    base = _rand(rows, size) @ _rand(size, size, seed=9)
    return [(base + 0.5 * _rand(rows, size, seed=seed)).to(dtype) for seed in range(1, count + 1)]


def _permutations(count: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.stack([torch.randperm(rows, generator=generator) for _ in range(count)])


def _loops(views: Sequence[Tensor], permutations: Tensor, w_size: int, eps: float, norm: bool) -> Tensor:
    """Iteration by iteration, sub-batch by sub-batch, view by view, pair by pair."""
    losses = []
    for permutation in permutations:
        whitened = [torch.empty_like(view) for view in views]
        for index in permutation.view(-1, w_size):
            for view, out in zip(views, whitened, strict=True):
                s = (1 - eps) * torch.cov(view[index].T) + eps * torch.eye(view.shape[1], dtype=view.dtype)
                out[index] = (view[index] - view[index].mean(0)) @ torch.linalg.cholesky(s).inverse().T
        for i, a in enumerate(whitened):
            for b in whitened[i + 1 :]:
                losses.append(2 - 2 * F.cosine_similarity(a, b).mean() if norm else F.mse_loss(a, b))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("w_iter", "eps", "norm"), [(1, 0.0, True), (3, 0.01, True), (2, 0.0, False)])
def test_equals_the_loops(count: int, w_iter: int, eps: float, norm: bool) -> None:
    views = [view.requires_grad_() for view in _views(count, 24, 5)]
    permutations = _permutations(w_iter, 24)
    ours = w_mse_loss(views, permutations=permutations, w_size=12, eps=eps, norm=norm)
    loops = _loops(views, permutations, 12, eps, norm)
    torch.testing.assert_close(ours.total, loops, rtol=1e-11, atol=0)
    for mine, theirs in zip(
        torch.autograd.grad(ours.total, views), torch.autograd.grad(loops, views), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_gradcheck(norm: bool, count: int) -> None:
    permutations = _permutations(2, 8)

    def total(*views: Tensor) -> Tensor:
        return w_mse_loss(views, permutations=permutations, w_size=8, eps=0.05, norm=norm).total

    assert torch.autograd.gradcheck(total, [view.requires_grad_() for view in _views(count, 8, 3)])


@pytest.mark.parametrize("norm", [True, False])
def test_pair_distance_gradcheck_and_loops(norm: bool) -> None:
    y = _rand(3, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: pair_distance(y, norm=norm), [y])
    pairs = [(y[i], y[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    each = [2 - 2 * F.cosine_similarity(a, b).mean() if norm else F.mse_loss(a, b) for a, b in pairs]
    torch.testing.assert_close(pair_distance(y, norm=norm), torch.stack(each).mean(), rtol=1e-12, atol=0)


def test_a_row_without_direction_has_no_cosine_and_no_gradient() -> None:
    y = _rand(2, 4, 3)
    y[0, 1] = 0
    y.requires_grad_()
    distance = pair_distance(y, norm=True)
    kept = [0, 2, 3]
    expected = 2 - 2 * F.cosine_similarity(y[0, kept], y[1, kept]).sum() / 4
    torch.testing.assert_close(distance, expected, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(distance, y)
    assert gradient[0, 1].abs().max() == 0
    assert gradient[1, 1].abs().max() < 1e-15


@pytest.mark.parametrize("norm", [True, False])
def test_invariances(norm: bool) -> None:
    views, permutations = _views(3, 24, 5), _permutations(1, 24)
    reference = w_mse_loss(views, permutations=permutations, w_size=8, norm=norm).total
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda x: 3.0 * x + 1.0,
        # A lower triangular map is undone by Cholesky whitening.
        lambda x: x @ (_rand(5, 5, seed=3).tril(-1) + torch.eye(5, dtype=x.dtype)).T,
    ]
    for change in changes:
        changed = w_mse_loss([change(x) for x in views], permutations=permutations, w_size=8, norm=norm).total
        torch.testing.assert_close(changed, reference, rtol=1e-9, atol=0)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    whole = [
        w_mse_loss(given, permutations=permutations, w_size=24, norm=norm).total
        for given in (views, [view[order] for view in views], views[::-1])
    ]
    torch.testing.assert_close(whole[1], whole[0], rtol=1e-10, atol=0)
    torch.testing.assert_close(whole[2], whole[0], rtol=1e-10, atol=0)
    broken = w_mse_loss([views[0][order], *views[1:]], permutations=permutations, w_size=24, norm=norm).total
    assert abs(broken - whole[0]) > 1e-3


def test_equal_views_have_no_distance() -> None:
    view = _views(1, 24, 5)[0]
    for norm in (True, False):
        loss = w_mse_loss([view, view], permutations=_permutations(1, 24), w_size=12, norm=norm)
        assert abs(loss.total) < 1e-12


def test_bfloat16_under_autocast_is_float32_of_the_same_numbers() -> None:
    views = [view.bfloat16() for view in _views(2, 32, 6)]
    permutations = _permutations(2, 32)

    def loss_and_gradients(views: list[Tensor], autocast: bool) -> list[Tensor]:
        leaves = [view.clone().requires_grad_() for view in views]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = w_mse_loss(leaves, permutations=permutations, w_size=16).total
        assert loss.dtype == torch.float32
        return [loss, *torch.autograd.grad(loss, leaves)]

    low = loss_and_gradients(views, True)
    full = loss_and_gradients([view.float() for view in views], False)
    torch.testing.assert_close(low[0], full[0], rtol=1e-5, atol=0)
    for mine, theirs in zip(low[1:], full[1:], strict=True):
        torch.testing.assert_close(mine, theirs.bfloat16(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("fill", [0.0, 2.0])
def test_constant_embeddings_are_named_or_without_gradient(fill: float) -> None:
    views = [torch.full((16, 4), fill, requires_grad=True) for _ in range(2)]
    permutations = _permutations(1, 16)
    with pytest.raises(SingularCovarianceError, match="w_size = 8 rows of d = 4 channels"):
        w_mse_loss(views, permutations=permutations, w_size=8)
    for options in ({"eps": 0.01}, {"on_singular": "eigh"}):
        loss = w_mse_loss(views, permutations=permutations, w_size=8, **options).total
        assert float(loss.detach()) == 2.0
        for gradient in torch.autograd.grad(loss, views):
            assert gradient.abs().max() == 0


def test_one_nan_row_makes_the_loss_nan() -> None:
    for w_size in (8, 4):
        views = _views(2, 16, 4)
        views[1][3, 2] = math.nan
        assert w_mse_loss(views, permutations=_permutations(1, 16), w_size=w_size).total.isnan()


def test_too_few_rows_are_named_or_left_out() -> None:
    views = [view.requires_grad_() for view in _views(2, 16, 6)]
    permutations = _permutations(1, 16)
    with pytest.raises(SingularCovarianceError, match="eps = 0"):
        w_mse_loss(views, permutations=permutations, w_size=4)
    loss = w_mse_loss(views, permutations=permutations, w_size=4, on_singular="eigh").total
    assert 0 < float(loss.detach()) < 4
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, views))


def test_bad_input_is_named() -> None:
    views, permutations = _views(2, 16, 4), _permutations(1, 16)
    with pytest.raises(ValueError, match="two or more views, got 1"):
        w_mse_loss(views[:1], permutations=permutations, w_size=8)
    with pytest.raises(ValueError, match="views of one shape"):
        w_mse_loss([views[0], views[1][:8]], permutations=permutations, w_size=8)
    with pytest.raises(ValueError, match="divide the 16 rows, got 5"):
        w_mse_loss(views, permutations=permutations, w_size=5)
