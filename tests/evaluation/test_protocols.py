from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from raysl.errors import InputError
from raysl.evaluation.protocols import Protocol, find_protocol, protocol_names
from raysl.evaluation.protocols.base import Options
from raysl.metrics.knn import few_label_knn


def _options(protocol: Protocol, **values: Any) -> Options:
    return protocol.options.model_validate(values)


@pytest.fixture(scope="module")
def features() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three blobs that overlap a little."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4]])
    x = centres[y] + torch.randn(90, 2, generator=generator)
    return x[:60], y[:60], x[60:], y[60:]


def test_the_protocols_there_are() -> None:
    assert protocol_names() == ["knn", "knn-few", "lbfgs", "linear-cached"]


def test_an_unknown_protocol_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'linear-cached'"):
        find_protocol("linear-cache")


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_scores_and_explains_its_options(
    name: str, features: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    protocol = find_protocol(name)
    # So few images make one batch of the linear probe's own size, too few steps to learn anything.
    options = _options(protocol, **({"batch_size": 4} if name == "linear-cached" else {}))
    assert 80.0 <= protocol.measure(*features, options).metrics["top1"] <= 100.0
    assert all(field.description for field in protocol.options.model_fields.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("knn", {"k": 0}),
        ("knn", {"temperature": 0.1}),
        ("knn", {"metric": "manhattan"}),
        ("knn-few", {"draws": 1}),
        ("knn-few", {"labels_per_class": 0}),
        ("linear-cached", {"lr": 0.0}),
        ("linear-cached", {"batch_size": 0}),
        ("lbfgs", {"c": -1.0}),
        ("lbfgs", {"iterations": 3}),
    ],
)
def test_options_out_of_bounds_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        find_protocol(name).options.model_validate(options)


def test_knn_passes_its_options_on(features: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    protocol = find_protocol("knn")
    train_x, train_y, test_x, test_y = features
    all_vote = protocol.measure(train_x, train_y, test_x, test_y, _options(protocol, k=60))
    assert all_vote.metrics["top1"] == pytest.approx(100 * float((test_y == 0).double().mean()))
    scaled = protocol.measure(train_x, train_y, 100 * test_x, test_y, _options(protocol, metric="cosine"))
    assert scaled == protocol.measure(train_x, train_y, test_x, test_y, _options(protocol, metric="cosine"))


def test_knn_few_reports_every_draw(features: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    protocol = find_protocol("knn-few")
    measured = protocol.measure(*features, _options(protocol, draws=4, labels_per_class=2, seed=3))
    expected = few_label_knn(*features, draws=4, labels_per_class=2, seed=3)
    assert measured.repeats == pytest.approx([100 * value for value in expected])
    repeats = torch.tensor(measured.repeats, dtype=torch.float64)
    assert measured.metrics == pytest.approx(
        {"top1": float(repeats.mean()), "top1_std": float(repeats.std())}
    )


def test_lbfgs_says_when_it_has_not_converged(features: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    protocol = find_protocol("lbfgs")
    assert protocol.measure(*features, _options(protocol)).notes == ()
    stopped = protocol.measure(*features, _options(protocol, max_iter=1))
    assert stopped.metrics["iterations"] == 1.0
    assert "before it converged" in stopped.notes[0]
