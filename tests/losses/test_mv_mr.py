from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from raysl.losses import mv_mr
from raysl.losses.mv_mr import MVMRLoss, centred_distances, distance_correlation, distances, mv_mr_loss


def _rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _inputs(rows: int = 12, size: int = 6) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Embeddings of the image and its view, and two representations of other sizes."""
    z_o = _rand(rows, size)
    z = z_o + 0.5 * _rand(rows, size, seed=1)
    return z_o, z, {"a": z_o @ _rand(size, 9, seed=2), "b": _rand(rows, 4, seed=3)}


def _loss(z_o: Tensor, z: Tensor, representations: dict[str, Tensor], **options: float) -> MVMRLoss:
    return mv_mr_loss(z_o, z, representations.items(), **options)  # type: ignore[arg-type]


def _plain_centred(x: Tensor) -> Tensor:
    """Double-centred distances, pair by pair."""
    n = len(x)
    d = torch.stack([torch.stack([max_distance(x[i], x[j]) for j in range(n)]) for i in range(n)])
    centring = torch.eye(n, dtype=x.dtype) - torch.ones(n, n, dtype=x.dtype) / n
    return centring @ d @ centring


def max_distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.sqrt(torch.clamp(((a - b) ** 2).sum(), min=1e-4))


def _plain_dcor(x: Tensor, y: Tensor) -> Tensor:
    """dCov over the root of the product of the two dVars: the definition, with sums written out."""
    a, b = _plain_centred(x), _plain_centred(y)
    n = len(x)
    covariance = sum(a[i, j] * b[i, j] for i in range(n) for j in range(n)) / n**2
    variances = [sum(c[i, j] ** 2 for i in range(n) for j in range(n)) / n**2 for c in (a, b)]
    r_squared = covariance / (variances[0] * variances[1]) ** 0.5
    return torch.as_tensor(r_squared) ** 0.5


def test_the_loss_is_the_sum_of_terms_computed_pair_by_pair() -> None:
    z_o, z, representations = _inputs(rows=8)
    made = _loss(
        z_o, z, representations, margin=1.4, mse_weight=0.3, std_weight=0.7, views_weight=1.1,
        representations_weight=2.0,
    )  # fmt: skip
    std = sum(torch.relu(1.4 - x.std(dim=0)).mean() for x in (z, z_o))
    views = 1 - _plain_dcor(z_o / 32, z / 32)
    dependence = {name: _plain_dcor(r, z / 32) for name, r in representations.items()}
    expected = 0.3 * ((z_o - z) ** 2).mean() + 0.7 * std + 1.1 * views
    expected = expected + 2.0 * sum(1 - dcor for dcor in dependence.values())
    torch.testing.assert_close(made.total, torch.as_tensor(expected), rtol=1e-11, atol=0)
    torch.testing.assert_close(made.std, torch.as_tensor(std), rtol=1e-12, atol=0)
    torch.testing.assert_close(made.views, views, rtol=1e-10, atol=0)
    for name, dcor in dependence.items():
        torch.testing.assert_close(made.representations[name], dcor, rtol=1e-11, atol=0)


def test_minimising_changes_the_sign_of_the_representations_only() -> None:
    z_o, z, representations = _inputs()
    more, less = (_loss(z_o, z, representations, maximize=maximize) for maximize in (True, False))
    dependence = torch.stack(list(more.representations.values()))
    torch.testing.assert_close(more.total - less.total, (1 - 2 * dependence).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("maximize", [True, False])
def test_gradcheck(maximize: bool) -> None:
    z_o, z, representations = _inputs(rows=7, size=4)
    # Some pairs lie at the floor, none near enough to it to cross it.
    z[1] = z[0] + 1e-3
    inputs = [x.requires_grad_() for x in (z_o, z, representations["a"])]

    def total(z_o: Tensor, z: Tensor, r: Tensor) -> Tensor:
        return mv_mr_loss(z_o, z, [("r", r)], maximize=maximize).total

    assert torch.autograd.gradcheck(total, inputs)


def test_distance_matrices_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    real = mv_mr.distances

    def counted(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return real(x)

    monkeypatch.setattr(mv_mr, "distances", counted)
    z_o, z, _ = _inputs()
    _loss(z_o, z, {str(k): _rand(12, 10 + k, seed=k) for k in range(5)})
    assert sorted(seen) == [(12, 6), (12, 6), *((12, 10 + k) for k in range(5))]


def test_representations_of_a_generator_are_taken_one_by_one() -> None:
    before: list[weakref.ref[Tensor]] = []

    def made() -> Iterator[tuple[str, Tensor]]:
        for seed in range(3):
            assert all(reference() is None for reference in before)
            r = _rand(12, 5, seed=seed)
            before.append(weakref.ref(r))
            yield str(seed), r
            del r

    z_o, z, _ = _inputs()
    assert list(mv_mr_loss(z_o, z, made()).representations) == ["0", "1", "2"]


def test_nothing_but_squares_of_the_batch_is_kept_of_a_representation() -> None:
    z = _rand(8, 4).requires_grad_()
    kept: list[int] = []

    def note(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        mv_mr_loss(z, z, [("wide", _rand(8, 1000, seed=1))])
    assert max(kept) <= 8 * 8


def test_distance_correlation_of_a_set_with_itself_is_one() -> None:
    a = centred_distances(_rand(20, 3))
    assert float(distance_correlation(a, a)) == pytest.approx(1.0, rel=1e-12)
    independent = centred_distances(_rand(400, 1, seed=1)), centred_distances(_rand(400, 1, seed=2))
    assert float(distance_correlation(*independent)) < 0.2


def test_invariances() -> None:
    x, y = _rand(20, 5), _rand(20, 3, seed=1)
    rotation = torch.linalg.qr(_rand(5, 5, seed=2)).Q
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    expected = distance_correlation(centred_distances(x), centred_distances(y))
    changes: list[Callable[[Tensor], Tensor]] = [lambda x: x @ rotation, lambda x: x + 100.0]
    for change in changes:
        made = distance_correlation(centred_distances(change(x)), centred_distances(y))
        torch.testing.assert_close(made, expected, rtol=1e-10, atol=0)
    together = distance_correlation(centred_distances(x[order]), centred_distances(y[order]))
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=0)
    alone = distance_correlation(centred_distances(x[order]), centred_distances(y))
    assert abs(float(alone - expected)) > 1e-2
    # The floor belongs to a row and itself, so that a scale matters, a little.
    scaled = distance_correlation(centred_distances(10 * x), centred_distances(y))
    assert 1e-8 < abs(float(scaled - expected)) < 1e-2


def test_distances_keep_the_floor_and_survive_float32_far_from_the_origin() -> None:
    x = _rand(30, 200)
    d = distances(x)
    assert torch.equal(d.diagonal(), torch.full((30,), 0.01, dtype=torch.float64))
    torch.testing.assert_close(distances((x + 300).float()).double(), d, rtol=1e-4, atol=1e-6)


def test_a_pair_at_the_floor_gets_no_gradient() -> None:
    z = _rand(6, 3).requires_grad_()
    d = distances(torch.stack([z[0], z[0] + 1e-4, z[1]]))
    (gradient,) = torch.autograd.grad(d[0, 1] + d[1, 0] + d.diagonal().sum(), z)
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["zeros", "constant", "tiny"])
def test_collapse_is_finite_without_gradient_and_told(kind: str, dtype: torch.dtype) -> None:
    start = {
        "zeros": torch.zeros(13, 6),
        "constant": _rand(1, 6).expand(13, 6),
        "tiny": 1e-3 * _rand(13, 6),
    }[kind].to(dtype)
    z = start.clone().requires_grad_()
    loss = mv_mr_loss(z, z, [("r", _rand(13, 4, seed=2, dtype=dtype))], std_weight=0.0)
    (gradient,) = torch.autograd.grad(loss.total, z)
    assert float(loss.total.detach()) == 2.0
    assert float(loss.representations["r"].detach()) == 0.0
    assert float(loss.at_floor) == 1.0
    assert gradient.abs().max() == 0


def test_the_std_term_has_no_gradient_at_a_std_of_zero_and_one_beside_it() -> None:
    _, z, representations = _inputs()
    flat = torch.ones_like(z).requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(flat, flat, representations).total, flat)
    assert gradient.abs().max() == 0
    near = (torch.ones_like(z) + 1e-4 * z).requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(near, near, representations).total, near)
    assert gradient.abs().max() > 1e-3
    assert torch.isfinite(gradient).all()


def test_the_authors_formula_is_nan_at_collapse() -> None:
    z = torch.ones(16, 4, dtype=torch.float64)
    z_o, _, _ = _inputs(16, 4)
    assert math.isnan(_loss(z_o, z, {"r": z_o}, reference_exact=True).total)
    assert math.isfinite(_loss(z_o, z, {"r": z_o}).total)


@pytest.mark.parametrize("where", ["z_o", "z", "representation", "collapsed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_nan_makes_the_loss_nan(where: str, dtype: torch.dtype) -> None:
    z_o, z, representations = _inputs()
    if where == "collapsed":
        z = torch.ones_like(z)
    {"z_o": z_o, "z": z, "representation": representations["b"], "collapsed": z}[where][3, 1] = math.nan
    loss = _loss(z_o.to(dtype), z.to(dtype), {name: r.to(dtype) for name, r in representations.items()})
    assert math.isnan(loss.total)


def test_duplicated_rows_and_fewer_rows_than_columns_are_nothing_special() -> None:
    z_o, z, representations = _inputs(5, 40)
    twice = [torch.cat([x, x]) for x in (z_o, z)]
    z_twice = twice[1].requires_grad_()
    loss = _loss(twice[0], z_twice, {name: torch.cat([r, r]) for name, r in representations.items()})
    (gradient,) = torch.autograd.grad(loss.total, z_twice)
    assert torch.isfinite(loss.total)
    assert torch.isfinite(gradient).all()
    assert float(loss.at_floor.detach()) == pytest.approx(10 / 90)


def test_bfloat16_autocast_is_the_float32_loss_of_the_same_inputs() -> None:
    z_o, z, representations = _inputs(64, 32)
    half = [x.bfloat16() for x in (z_o, z)]
    given = {name: r.float() for name, r in representations.items()}
    expected = _loss(half[0].float(), half[1].float(), given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = _loss(half[0], half[1], given)
    assert made.total.dtype == torch.float32
    torch.testing.assert_close(made.total, expected.total, rtol=1e-5, atol=0)


def test_normalised_rows_have_no_length() -> None:
    z_o, z, representations = _inputs()
    lengths = _rand(12, 1, seed=5).abs() + 0.1
    one, other = (_loss(z_o, x, representations, normalize=True).total for x in (z, z * lengths))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=0)
    assert abs(float(one - _loss(z_o, z, representations).total)) > 1e-3


def test_bad_input_is_named() -> None:
    z_o, z, _ = _inputs()
    with pytest.raises(ValueError, match=r"one shape \(N, D\) with N >= 2"):
        mv_mr_loss(z_o, z[:5], [])
    with pytest.raises(ValueError, match=r"hog: expected \(12, D\) values, got \(7, 3\)"):
        mv_mr_loss(z_o, z, [("hog", _rand(7, 3))])
