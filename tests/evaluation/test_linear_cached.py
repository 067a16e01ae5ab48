"""The golden vector is the one of the protocol's authors; see `linear_cached.measure` for the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysl.evaluation.protocols.linear_cached import Options, accuracies, measure, train_head

DATA = Path(__file__).parent / "data" / "linear_cached.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(DATA) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def _trained(golden: dict[str, Tensor], dtype: torch.dtype) -> nn.Linear:
    head = nn.Linear(8, 6, dtype=dtype)
    with torch.no_grad():
        head.weight.copy_(golden["W0"])
        head.bias.copy_(golden["b0"])
    orders = golden["perms"].long()
    options = Options(epochs=len(orders))
    train_head(head, golden["x_train"].to(dtype), golden["y_train"].long(), orders, options)
    return head


def test_weights_and_accuracy_are_the_authors(golden: dict[str, Tensor]) -> None:
    head = _trained(golden, torch.float64)
    torch.testing.assert_close(head.weight.data, golden["W"], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(head.bias.data, golden["b"], rtol=1e-8, atol=1e-12)
    scores = accuracies(head, golden["x_test"].double(), golden["y_test"].long())
    assert scores["top1"] == pytest.approx(100 * float(golden["acc1"]), abs=1e-4)
    assert scores["top5"] == pytest.approx(100 * float(golden["acc5"]), abs=1e-4)


def test_float32_is_close_to_the_authors(golden: dict[str, Tensor]) -> None:
    head = _trained(golden, torch.float32)
    torch.testing.assert_close(head.weight.data, golden["W_f32"], rtol=1e-3, atol=1e-5)


def test_the_partial_last_batch_is_used() -> None:
    x, y = torch.eye(5), torch.tensor([0, 1, 0, 1, 0])
    order = [torch.arange(5)]
    weights = []
    for last in (0, 1):
        y[4] = last
        head = nn.Linear(5, 2)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        train_head(head, x, y, order, Options(epochs=1, batch_size=2, weight_decay=0.0))
        weights.append(head.weight.data[:, 4].clone())
    assert weights[0][0] > 0 > weights[0][1]
    assert weights[1][0] < 0 < weights[1][1]


def test_the_learning_rate_falls_to_the_final_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = torch.optim.Adam.step

    def recording(self: torch.optim.Adam) -> None:
        seen.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", recording)
    options = Options(epochs=4, batch_size=2)
    train_head(nn.Linear(3, 2), torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), [torch.arange(4)] * 4, options)
    assert seen == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_measure_depends_on_its_own_seed_only(golden: dict[str, Tensor]) -> None:
    x, y = golden["x_train"][:200], golden["y_train"][:200].long()
    options = Options(epochs=2, batch_size=64)
    torch.manual_seed(1)
    first = measure(x, y, x, y, options)
    torch.manual_seed(2)
    assert measure(x, y, x, y, options) == first
    assert measure(x, y, x, y, options.model_copy(update={"seed": 1})) != first


def test_top5_needs_more_than_five_classes() -> None:
    scores = accuracies(nn.Linear(3, 5), torch.randn(7, 3), torch.zeros(7, dtype=torch.long))
    assert set(scores) == {"top1"}


def test_accuracies_count_ranks() -> None:
    head = nn.Linear(6, 6, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(6))
    scores = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]])
    labels = torch.tensor([0, 4, 5, 5])
    assert accuracies(head, scores, labels) == {"top1": 25.0, "top5": 50.0}
