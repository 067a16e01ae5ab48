from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.cw_rgp import covariance_loss, cw_rgp_loss
from raysl.losses.w_mse import w_mse_loss
from raysl.losses.whitening import SingularCovarianceError


def _rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _views(count: int, rows: int, size: int) -> list[Tensor]:
    return [_rand(rows, size) + 0.5 * _rand(rows, size, seed=seed) for seed in range(1, count + 1)]


def _orders(*shape: int) -> Tensor:
    """Permutations of the last dimension."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7)).argsort(-1)


def _inverse_root(s: Tensor) -> Tensor:
    """S^(-1/2) by Newton's iteration, which knows nothing of eigenvalues."""
    scale = torch.linalg.matrix_norm(s)
    eye = torch.eye(len(s), dtype=s.dtype)
    y, z = s / scale, eye
    for _ in range(40):
        t = 0.5 * (3 * eye - z @ y)
        y, z = y @ t, t @ z
    root: Tensor = z / scale.sqrt()
    return root


def _loops(
    views: Sequence[Tensor], permutations: Tensor, channels: Tensor, w_size: int, groups: int, eps: float
) -> Tensor:
    losses = []
    for permutation, of_iteration in zip(permutations, channels, strict=True):
        whitened = [torch.empty_like(view) for view in views]
        for index, of_parts in zip(permutation.view(-1, w_size), of_iteration, strict=True):
            for view, out, order in zip(views, whitened, of_parts, strict=True):
                x = view[index] - view[index].mean(1, keepdim=True)
                y = torch.empty_like(x)
                for part in order.chunk(groups):
                    s = (1 - eps) * x[:, part] @ x[:, part].T / (len(part) - 1)
                    y[:, part] = _inverse_root(s + eps * torch.eye(w_size, dtype=x.dtype)) @ x[:, part]
                out[index] = y
        for i, a in enumerate(whitened):
            losses += [2 - 2 * F.cosine_similarity(a, b).mean() for b in whitened[i + 1 :]]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("groups", "eps"), [(1, 0.0), (3, 0.0), (2, 0.1)])
def test_equals_the_loops(count: int, groups: int, eps: float) -> None:
    views = [view.requires_grad_() for view in _views(count, 8, 36)]
    permutations, channels = _orders(2, 8), _orders(2, 2, count, 36)
    ours = cw_rgp_loss(
        views, permutations=permutations, w_size=4, channel_permutations=channels, groups=groups, eps=eps
    ).total
    loops = _loops(views, permutations, channels, 4, groups, eps)
    torch.testing.assert_close(ours, loops, rtol=1e-10, atol=0)
    for mine, theirs in zip(torch.autograd.grad(ours, views), torch.autograd.grad(loops, views), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_gradcheck(norm: bool, axis: int) -> None:
    rows, size = (4, 12) if axis == 0 else (8, 4)
    permutations, channels = _orders(1, rows), _orders(1, 1, 2, size)

    def total(*views: Tensor) -> Tensor:
        return cw_rgp_loss(
            views,
            permutations=permutations,
            w_size=rows,
            channel_permutations=channels,
            axis=axis,
            groups=2,
            norm=norm,
            cov_weight=0.3,
        ).total

    assert torch.autograd.gradcheck(total, [view.requires_grad_() for view in _views(2, rows, size)])


def test_cholesky_along_the_batch_is_w_mse() -> None:
    views, permutations = _views(3, 24, 5), _orders(2, 24)
    ours = cw_rgp_loss(
        views, permutations=permutations, w_size=12, whitening="cholesky", axis=1, eps=0.01
    ).total
    expected = w_mse_loss(views, permutations=permutations, w_size=12, eps=0.01).total
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)


def test_invariances() -> None:
    views, permutations, channels = _views(2, 8, 36), _orders(1, 8), _orders(1, 2, 2, 36)

    def total(given: Sequence[Tensor], **options: Any) -> Tensor:
        chosen: dict[str, Any] = {"groups": 2, "channel_permutations": channels, "w_size": 4} | options
        return cw_rgp_loss(given, permutations=permutations, **chosen).total

    reference = total(views)
    # Rows are centred over channels, and each view scaled to white.
    torch.testing.assert_close(total([2.0 * view + 5.0 for view in views]), reference, rtol=1e-10, atol=0)
    # Which channels are whitened together matters, their order within a group does not.
    within = channels.view(1, 2, 2, 2, 18).flip(3).flatten(3)
    torch.testing.assert_close(total(views, channel_permutations=within), reference, rtol=1e-10, atol=0)
    assert abs(total(views, channel_permutations=None) - reference) > 1e-4
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    whole = {"w_size": 8, "channel_permutations": None}
    torch.testing.assert_close(
        total([view[order] for view in views], **whole), total(views, **whole), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_covariance_loss_by_torch_cov(axis: int) -> None:
    x = _rand(3, 6, 10)
    expected = []
    for one in x:
        c = torch.cov(one if axis == 0 else one.T)
        expected.append((c - torch.diag(c.diagonal())).square().sum() / len(c))
    torch.testing.assert_close(
        covariance_loss(x, axis=axis), torch.stack(expected).mean(), rtol=1e-12, atol=0
    )


def test_covariance_term_is_summed_over_views_and_averaged_over_sub_batches() -> None:
    views, permutations = _views(3, 12, 20), _orders(1, 12)
    loss = cw_rgp_loss(views, permutations=permutations, w_size=4, groups=2, cov_weight=0.7)
    assert loss.covariance is not None
    parts = [view[permutations[0]].view(3, 4, 20) for view in views]
    expected = torch.stack([covariance_loss(part) for part in parts]).sum()
    torch.testing.assert_close(loss.covariance, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.total, loss.distance + 0.7 * expected, rtol=1e-12, atol=0)
    whole = cw_rgp_loss(
        views, permutations=permutations, w_size=4, groups=2, cov_weight=0.7, cov_size=12
    ).covariance
    assert whole is not None
    torch.testing.assert_close(whole, covariance_loss(torch.stack(views)) * 3, rtol=1e-12, atol=0)
    assert cw_rgp_loss(views, permutations=permutations, w_size=4, groups=2).covariance is None


def test_bfloat16_under_autocast_is_float32_of_the_same_numbers() -> None:
    views = [view.bfloat16() for view in _views(2, 8, 36)]
    permutations, channels = _orders(1, 8), _orders(1, 2, 2, 36)

    def loss_and_gradients(views: list[Tensor], autocast: bool) -> list[Tensor]:
        leaves = [view.clone().requires_grad_() for view in views]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = cw_rgp_loss(
                leaves,
                permutations=permutations,
                w_size=4,
                channel_permutations=channels,
                groups=2,
                cov_weight=0.1,
            ).total
        assert loss.dtype == torch.float32
        return [loss, *torch.autograd.grad(loss, leaves)]

    low = loss_and_gradients(views, True)
    full = loss_and_gradients([view.float() for view in views], False)
    torch.testing.assert_close(low[0], full[0], rtol=1e-5, atol=0)
    for mine, theirs in zip(low[1:], full[1:], strict=True):
        torch.testing.assert_close(mine, theirs.bfloat16(), rtol=1e-5, atol=1e-8)


def test_constant_embeddings_have_no_gradient_and_can_be_an_error() -> None:
    views = [torch.full((8, 12), 2.0, requires_grad=True) for _ in range(2)]
    permutations = _orders(1, 8)
    loss = cw_rgp_loss(views, permutations=permutations, w_size=4, groups=2)
    assert float(loss.total.detach()) == 2.0
    assert loss.condition is not None
    assert loss.condition > 1e7
    for gradient in torch.autograd.grad(loss.total, views):
        assert gradient.abs().max() == 0
    with pytest.raises(SingularCovarianceError, match="inverts a 4 x 4 matrix made from 6 observations"):
        cw_rgp_loss(views, permutations=permutations, w_size=4, groups=2, on_singular="error")


@pytest.mark.parametrize("duplicated", [False, True], ids=["fewer channels than rows", "duplicated rows"])
def test_missing_directions_are_left_out(duplicated: bool) -> None:
    views = _views(2, 8, 40 if duplicated else 12)
    if duplicated:
        views = [view[:4].repeat(2, 1) for view in views]
    leaves = [view.requires_grad_() for view in views]
    loss = cw_rgp_loss(leaves, permutations=_orders(1, 8), w_size=8, groups=2).total
    assert 0 < float(loss.detach()) < 4
    for gradient in torch.autograd.grad(loss, leaves):
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 10


def test_one_nan_row_makes_the_loss_nan() -> None:
    for groups in (1, 6):
        views = _views(2, 8, 36)
        views[1][3] = math.nan
        loss = cw_rgp_loss(views, permutations=_orders(1, 8), w_size=4, groups=groups, cov_weight=0.1)
        assert loss.total.isnan()


def test_bad_input_is_named() -> None:
    views, permutations = _views(2, 8, 12), _orders(1, 8)
    with pytest.raises(ValueError, match=r"\(w_iter, sub-batches, 2, 12\), got \(1, 1, 2"):
        cw_rgp_loss(views, permutations=permutations, w_size=4, channel_permutations=_orders(1, 1, 2, 12))
    with pytest.raises(ValueError, match="groups must divide the 12 channels, got 5"):
        cw_rgp_loss(views, permutations=permutations, w_size=4, groups=5)
    with pytest.raises(ValueError, match="two or more views, got 1"):
        cw_rgp_loss(views[:1], permutations=permutations, w_size=4)
