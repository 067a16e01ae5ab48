from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raysl.metrics.spectra import effective_rank, embedding_std, rankme, singular_values


def _rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (12, 12)])
def test_singular_values_are_torchs(shape: tuple[int, int]) -> None:
    z = _rand(*shape) + 2
    torch.testing.assert_close(singular_values(z), torch.linalg.svdvals(z), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_rank_counts_equal_directions(count: int) -> None:
    basis = torch.linalg.qr(_rand(32, count)).Q
    rotation = torch.linalg.qr(_rand(8, 8, seed=1)).Q[:count]
    assert rankme(basis @ rotation) == pytest.approx(count, rel=1e-5)
    assert rankme(5 * (basis @ rotation).float()) == pytest.approx(count, rel=1e-2)


def test_rank_is_the_paper_formula() -> None:
    z = _rand(50, 10) * torch.linspace(0.01, 3, 10, dtype=torch.float64)
    share = torch.linalg.svdvals(z) / torch.linalg.svdvals(z).sum() + 1e-7
    assert rankme(z) == pytest.approx(float(torch.exp(-(share * share.log()).sum())), rel=1e-4)
    assert rankme(z) == effective_rank(singular_values(z))


def test_std_is_one_on_the_sphere_and_zero_when_collapsed() -> None:
    z = _rand(4000, 32)
    assert embedding_std(z) == pytest.approx(1.0, abs=0.02)
    assert embedding_std(10 * z.bfloat16()) == pytest.approx(1.0, abs=0.02)
    assert embedding_std(torch.ones(10, 32)) == pytest.approx(0.0, abs=1e-12)
    # A common direction leaves little room: mean resultant length 100 / sqrt(100^2 + 1).
    assert 0 < embedding_std(z + 100) < 0.02


def test_degenerate_embeddings() -> None:
    assert rankme(torch.zeros(5, 3)) == 0.0
    assert embedding_std(torch.zeros(5, 3)) == 0.0
    assert rankme(torch.ones(5, 3)) == pytest.approx(1.0, abs=1e-6)
    for bad in (math.nan, math.inf):
        z = torch.ones(5, 3)
        z[2, 1] = bad
        assert math.isnan(rankme(z))
        assert math.isnan(embedding_std(z))


def test_no_gradient_is_recorded() -> None:
    z = _rand(6, 3).requires_grad_()
    assert not singular_values(z).requires_grad
