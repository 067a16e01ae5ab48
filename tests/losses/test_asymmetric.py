from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.asymmetric import byol_loss, simsiam_loss

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def _byol_mse(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    return byol_loss(predictions, targets, normalize=False)


LOSSES: list[Loss] = [byol_loss, _byol_mse, simsiam_loss]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=["byol", "byol-mse", "simsiam"])


def _views(
    count: int, rows: int, size: int, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], list[Tensor]]:
    """Predictions and targets that agree in part."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(2 * count, rows, size, generator=generator, dtype=torch.float64)
    made = list((base + 0.5 * noise).to(dtype))
    return made[:count], made[count:]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_byol_equals_the_loop_over_pairs(count: int) -> None:
    q, t = _views(count, 7, 5)
    pairs = list(combinations(range(count), 2))

    def nmse(a: Tensor, b: Tensor) -> Tensor:
        return (F.normalize(a) - F.normalize(b)).square().sum(1).mean()

    for normalize, f in ((True, nmse), (False, F.mse_loss)):
        expected = torch.stack([f(q[i], t[j]) + f(q[j], t[i]) for i, j in pairs]).sum() / len(pairs)
        torch.testing.assert_close(byol_loss(q, t, normalize=normalize), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("count", [2, 3])
def test_simsiam_equals_the_loop_over_ordered_pairs(count: int) -> None:
    p, z = _views(count, 7, 5)
    cosines = [F.cosine_similarity(p[i], z[j]).mean() for i, j in permutations(range(count), 2)]
    torch.testing.assert_close(simsiam_loss(p, z), -torch.stack(cosines).mean(), rtol=1e-12, atol=0)


def test_simsiam_holds_the_embeddings_fixed() -> None:
    p, z = _views(2, 7, 5)
    inputs = [x.requires_grad_() for x in (*p, *z)]
    gradients = torch.autograd.grad(simsiam_loss(p, z), inputs, allow_unused=True)
    assert all(gradient is not None for gradient in gradients[:2])
    assert all(gradient is None for gradient in gradients[2:])


@every_loss
@pytest.mark.parametrize("count", [2, 3])
def test_gradcheck(loss: Loss, count: int) -> None:
    q, t = _views(count, 4, 3)
    inputs = [x.requires_grad_() for x in q]
    assert torch.autograd.gradcheck(lambda *x: loss(x, t), inputs)


def test_gradcheck_of_targets() -> None:
    q, t = _views(3, 4, 3)
    inputs = [x.requires_grad_() for x in (*q, *t)]
    for normalize in (True, False):
        assert torch.autograd.gradcheck(
            lambda *x, chosen=normalize: byol_loss(x[:3], x[3:], normalize=chosen), inputs
        )


@every_loss
def test_invariances(loss: Loss) -> None:
    q, t = _views(3, 16, 6)
    reference = loss(q, t)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    rotation = torch.linalg.qr(_views(2, 6, 6)[0][0]).Q
    changes: list[Callable[[Tensor], Tensor]] = [lambda x: x[order], lambda x: x @ rotation]
    if loss is not _byol_mse:
        changes.append(lambda x: 3 * x)
    for change in changes:
        changed = loss([change(x) for x in q], [change(x) for x in t])
        torch.testing.assert_close(changed, reference, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(loss(q[::-1], t[::-1]), reference, rtol=1e-12, atol=1e-13)
    assert abs(loss([x[order] for x in q], t) - reference) > 1e-3


def test_a_prediction_that_all_but_hits_keeps_its_accuracy_in_float32() -> None:
    t = [view + 100 for view in _views(3, 8, 4, torch.float32)[1]]
    t = [t[0]] * 3
    q = [view + 0.001 for view in t]
    expected = 2 * float((q[0] - t[0]).double().square().mean())
    assert float(byol_loss(q, t, normalize=False)) == pytest.approx(expected, rel=1e-5)


@every_loss
def test_bfloat16_outputs_under_autocast_are_computed_in_float32(loss: Loss) -> None:
    q, t = _views(2, 64, 32, torch.bfloat16)
    plain = loss([x.float() for x in q], [x.float() for x in t])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(q, t)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)


@every_loss
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["zeros", "constant"])
def test_constant_embeddings_are_finite_without_gradient(loss: Loss, fill: float) -> None:
    q = [torch.full((8, 4), fill, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    value = loss(q, [x.detach() for x in q])
    assert torch.isfinite(value)
    for gradient in torch.autograd.grad(value, q):
        assert gradient.abs().max() < 1e-12


@every_loss
def test_duplicated_rows_change_nothing(loss: Loss) -> None:
    q, t = _views(2, 8, 4)
    doubled = loss([torch.cat([x, x]) for x in q], [torch.cat([x, x]) for x in t])
    torch.testing.assert_close(doubled, loss(q, t), rtol=1e-12, atol=0)


@every_loss
@pytest.mark.parametrize("side", [0, 1], ids=["predictions", "targets"])
def test_a_nan_row_makes_the_loss_nan(loss: Loss, side: int) -> None:
    sides = _views(2, 8, 4)
    sides[side][1][2] = math.nan
    assert math.isnan(loss(*sides))


@every_loss
def test_bad_input_is_named(loss: Loss) -> None:
    q, t = _views(2, 8, 4)
    with pytest.raises(ValueError, match="two or more views, as many of each, got 1 and 1"):
        loss(q[:1], t[:1])
    with pytest.raises(ValueError, match="got 2 and 1"):
        loss(q, t[:1])
    with pytest.raises(ValueError, match=r"got .*\(8, 4\).*\(6, 4\)"):
        loss(q, [t[0], t[1][:6]])
