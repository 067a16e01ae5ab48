from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.contrastive import nt_xent_loss


def _views(count: int, rows: int, size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, rows, size, generator=generator, dtype=torch.float64)
    return list((base + 0.5 * noise).to(dtype))


def _one_pair(a: Tensor, b: Tensor, temperature: float, normalize: bool) -> Tensor:
    """The definition, row by row."""
    rows = torch.cat([F.normalize(a), F.normalize(b)] if normalize else [a, b])
    count, losses = len(a), []
    for i in range(2 * count):
        logits = rows @ rows[i] / temperature
        others = [j for j in range(2 * count) if j != i]
        losses.append(logits[others].logsumexp(0) - logits[(i + count) % (2 * count)])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_definition_averaged_over_pairs(count: int, normalize: bool) -> None:
    views = _views(count, 7, 5)
    pairs = [_one_pair(a, b, 0.3, normalize) for a, b in combinations(views, 2)]
    ours = nt_xent_loss(views, temperature=0.3, normalize=normalize)
    torch.testing.assert_close(ours, torch.stack(pairs).mean(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(count: int, normalize: bool) -> None:
    inputs = [view.requires_grad_() for view in _views(count, 4, 3)]
    assert torch.autograd.gradcheck(lambda *x: nt_xent_loss(x, temperature=0.4, normalize=normalize), inputs)


def test_invariances() -> None:
    views = _views(2, 16, 6)
    reference = nt_xent_loss(views)
    permutation = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    rotation = torch.linalg.qr(_views(1, 6, 6)[0]).Q
    for changed in (
        [x[permutation] for x in views],
        [x @ rotation for x in views],
        [3 * x for x in views],
        views[::-1],
    ):
        torch.testing.assert_close(nt_xent_loss(changed), reference, rtol=1e-12, atol=0)
    assert abs(nt_xent_loss([views[0], views[1][permutation]]) - reference) > 1e-3


def test_bfloat16_autocast_stays_near_float32() -> None:
    views = _views(2, 128, 32, torch.float32)
    weight = (torch.randn(32, 32, generator=torch.Generator().manual_seed(2)) / 6).requires_grad_()

    def loss_and_gradient(autocast: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = nt_xent_loss([x @ weight for x in views])
        assert loss.dtype == torch.float32
        return loss, torch.autograd.grad(loss, weight)[0]

    (value, gradient), (value_16, gradient_16) = loss_and_gradient(False), loss_and_gradient(True)
    torch.testing.assert_close(value_16, value, rtol=1e-3, atol=0)
    assert (gradient_16 - gradient).norm() < 2e-2 * gradient.norm()


@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["zeros", "constant"])
def test_constant_embeddings_give_chance_without_gradient(fill: float) -> None:
    views = [torch.full((8, 4), fill, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    loss = nt_xent_loss(views)
    assert loss.item() == pytest.approx(math.log(15))
    for gradient in torch.autograd.grad(loss, views):
        assert gradient.abs().max() < 1e-12


def test_duplicated_rows_are_finite_and_cost_at_least_log_two() -> None:
    rows = _views(1, 8, 4)[0]
    views = [torch.cat([rows, rows]).requires_grad_() for _ in range(2)]
    loss = nt_xent_loss(views, temperature=0.01)
    # Three candidates tie for the positive, and no temperature can tell them apart.
    assert math.log(3) - 1e-9 < loss.item() < math.log(3) + 0.5
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss, views))


def test_large_logits_do_not_overflow() -> None:
    views = [1e3 * view for view in _views(2, 8, 4, torch.float32)]
    assert torch.isfinite(nt_xent_loss(views, normalize=False))


def test_a_nan_row_makes_the_loss_nan() -> None:
    views = _views(2, 8, 4)
    views[1][2] = math.nan
    assert math.isnan(nt_xent_loss(views))


def test_bad_input_is_named() -> None:
    views = _views(2, 8, 4)
    with pytest.raises(ValueError, match="two or more views, got 1"):
        nt_xent_loss(views[:1])
    with pytest.raises(ValueError, match=r"got .*\(8, 4\).*\(6, 4\)"):
        nt_xent_loss([views[0], views[1][:6]])
    with pytest.raises(ValueError, match="N >= 2"):
        nt_xent_loss([view[:1] for view in views])
    with pytest.raises(ValueError, match=r"positive, got 0\.0"):
        nt_xent_loss(views, temperature=0.0)
