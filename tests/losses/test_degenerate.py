"""Every loss on embeddings that no run should have: a named error, finite numbers, or a NaN that shows."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raysl import losses
from raysl.losses.asymmetric import byol_loss, simsiam_loss
from raysl.losses.contrastive import nt_xent_loss
from raysl.losses.cw_rgp import covariance_loss, cw_rgp_loss
from raysl.losses.intl import intl_loss, intl_m_loss, trace_loss
from raysl.losses.matrix_ssl import matrix_ssl_loss
from raysl.losses.mec import mec_loss
from raysl.losses.mv_mr import mv_mr_loss
from raysl.losses.redundancy import barlow_twins_loss, vicreg_loss
from raysl.losses.w_mse import w_mse_loss
from raysl.losses.whitening import SingularCovarianceError

Loss = Callable[[Tensor, Tensor], Tensor]
ROWS, SIZE = 16, 6


def _random(rows: int, size: int, seed: int) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _order(rows: int) -> Tensor:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(0))[None]


def _representation(x: Tensor) -> list[tuple[str, Tensor]]:
    return [("r", _random(len(x), 20, 5).to(x.dtype))]


LOSSES: dict[str, Loss] = {
    "nt_xent": lambda a, b: nt_xent_loss([a, b]),
    "nt_xent, raw": lambda a, b: nt_xent_loss([a, b], normalize=False),
    "byol": lambda a, b: byol_loss([a, b], [a.detach(), b.detach()]),
    "byol, raw": lambda a, b: byol_loss([a, b], [a.detach(), b.detach()], normalize=False),
    "simsiam": lambda a, b: simsiam_loss([a, b], [a, b]),
    "mec": lambda a, b: mec_loss([a.detach(), b.detach()], [a, b], lamda_inv=8.0).total,
    "matrix_ssl": lambda a, b: matrix_ssl_loss([a.detach(), b.detach()], [a, b]).total,
    "matrix_ssl, exact": lambda a, b: matrix_ssl_loss([a.detach(), b.detach()], [a, b], order=None).total,
    "barlow_twins": lambda a, b: barlow_twins_loss(a, b).total,
    "vicreg": lambda a, b: vicreg_loss(a, b).total,
    "intl": lambda a, b: intl_loss([a, b], beta=0.02).total,
    "intl, axis 1": lambda a, b: intl_loss([a, b], beta=0.02, axis=1).total,
    "intl_m": lambda a, b: intl_m_loss(a, [b], beta=0.02).total,
    "trace": lambda a, b: trace_loss(a) + trace_loss(b, axis=1),
    "mv_mr": lambda a, b: mv_mr_loss(a, b, _representation(a)).total,
    "mv_mr, unit rows": lambda a, b: mv_mr_loss(a, b, _representation(a), normalize=True).total,
    "w_mse": lambda a, b: w_mse_loss([a, b], permutations=_order(len(a)), w_size=8).total,
    "w_mse, eigh": lambda a, b: (
        w_mse_loss([a, b], permutations=_order(len(a)), w_size=8, on_singular="eigh").total
    ),
    "w_mse, eps": lambda a, b: w_mse_loss([a, b], permutations=_order(len(a)), w_size=8, eps=0.01).total,
    "cw_rgp": lambda a, b: cw_rgp_loss([a, b], permutations=_order(len(a)), w_size=8, groups=2).total,
    "cw_rgp, axis 1": lambda a, b: cw_rgp_loss([a, b], permutations=_order(len(a)), w_size=8, axis=1).total,
    "cw_rgp, covariance": lambda a, b: (
        cw_rgp_loss([a, b], permutations=_order(len(a)), w_size=8, cov_weight=0.1).total
    ),
    "covariance": lambda a, b: covariance_loss(torch.stack([a, b])),
}
MAY_RAISE = {"w_mse"}
"""Where a singular covariance is an error."""

COLLAPSED: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "one constant": lambda x: torch.full_like(x, 1.7),
    "equal rows": lambda x: _random(1, x.shape[1], 9).to(x.dtype).expand_as(x).clone(),
}
POOR: dict[str, Callable[[Tensor], Tensor]] = {
    "duplicated rows": lambda x: x[: len(x) // 2].repeat(2, 1),
    "a constant column": lambda x: x.index_fill(1, torch.tensor(2), 0.3),
    "a row of zeros": lambda x: x.index_fill(0, torch.tensor(2), 0.0),
    "rank one": lambda x: x[:, :1] * x[:1],
    "fewer rows than columns": lambda x: (
        torch.cat([x] * 7, dim=1) + 0.01 * _random(len(x), 42, 7).to(x.dtype)
    ),
    "times 1e6": lambda x: 1e6 * x,
    "times 1e-10": lambda x: 1e-10 * x,
    "times 1e-20": lambda x: 1e-20 * x,
    "times 1e-30": lambda x: 1e-30 * x,
}
BROKEN = {"nan": math.nan, "inf": math.inf}

every_loss = pytest.mark.parametrize("name", LOSSES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def _pair(dtype: torch.dtype) -> list[Tensor]:
    base = _random(ROWS, SIZE, 1)
    return [base.to(dtype), (base + 0.3 * _random(ROWS, SIZE, 2)).to(dtype)]


def _value_and_gradients(name: str, views: list[Tensor]) -> tuple[Tensor, list[Tensor]] | None:
    """Return the loss and its gradients; None where a named error says that there is none."""
    leaves = [view.clone().requires_grad_() for view in views]
    try:
        value = LOSSES[name](*leaves)
    except SingularCovarianceError:
        assert name in MAY_RAISE
        return None
    return value.detach(), list(torch.autograd.grad(value, leaves))


def test_every_loss_is_here() -> None:
    modules = [
        importlib.import_module(f"raysl.losses.{m.name}") for m in pkgutil.iter_modules(losses.__path__)
    ]
    found = {
        name
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_loss") and not name.startswith("_") and value.__module__ == module.__name__
    }
    assert found == {f"{name.split(',')[0]}_loss" for name in LOSSES}


@every_loss
@dtypes
@pytest.mark.parametrize("kind", COLLAPSED)
def test_a_collapse_to_a_point_is_finite_without_gradient(name: str, dtype: torch.dtype, kind: str) -> None:
    found = _value_and_gradients(name, [COLLAPSED[kind](view) for view in _pair(dtype)])
    if found is not None:
        assert found[0].isfinite()
        for gradient in found[1]:
            # But for rounding, no row is told from another.
            assert (gradient - gradient.mean(0)).abs().max() < 1e-5


@every_loss
@dtypes
@pytest.mark.parametrize("kind", POOR)
def test_poor_embeddings_are_finite(name: str, dtype: torch.dtype, kind: str) -> None:
    found = _value_and_gradients(name, [POOR[kind](view) for view in _pair(dtype)])
    if found is not None:
        assert found[0].isfinite()
        assert all(gradient.isfinite().all() for gradient in found[1])


@every_loss
@dtypes
@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_row_makes_the_loss_nan(name: str, dtype: torch.dtype, view: int, kind: str) -> None:
    views = _pair(dtype)
    views[view][3] = BROKEN[kind]
    found = _value_and_gradients(name, views)
    assert found is not None
    assert not found[0].isfinite()
