from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from raysl.errors import InputError
from raysl.metrics import knn
from raysl.metrics.knn import (
    few_label_draws,
    few_label_knn,
    knn_accuracy,
    knn_predict,
    paired_interval,
)


def _clusters(rows: int, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 6, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=generator)
    noise = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    return centres[labels] + 0.8 * noise, labels


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_agrees_with_scikit_learn(distance: knn.Distance, k: int) -> None:
    (train_x, train_y), (test_x, test_y) = _clusters(200), _clusters(150, seed=1)
    theirs = KNeighborsClassifier(n_neighbors=k, metric=distance, algorithm="brute")
    expected = theirs.fit(train_x.numpy(), train_y.numpy()).predict(test_x.numpy())
    predicted = knn_predict(train_x, train_y, test_x, k=k, distance=distance)
    assert np.array_equal(predicted.numpy(), expected)
    accuracy = knn_accuracy(train_x, train_y, test_x, test_y, k=k, distance=distance)
    assert accuracy == pytest.approx(float((expected == test_y.numpy()).mean()))
    assert 0.5 < accuracy < 1.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_distances_survive_a_far_origin(dtype: torch.dtype) -> None:
    (train_x, train_y), (test_x, _) = _clusters(200), _clusters(100, seed=1)
    near = knn_predict(train_x, train_y, test_x)
    far = knn_predict((train_x + 300).to(dtype), train_y, (test_x + 300).to(dtype))
    assert torch.equal(near, far)


def test_equal_votes_go_to_the_smallest_label() -> None:
    train_x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    train_y = torch.tensor([9, 9, 3, 3])
    assert knn_predict(train_x, train_y, torch.zeros(1, 1), k=4).tolist() == [3]
    assert knn_predict(train_x, train_y, torch.zeros(1, 1), k=3).tolist() == [9]


def test_temperature_weights_the_nearer_neighbours() -> None:
    angles = torch.tensor([0.1, 0.9, 1.0])
    train_x = torch.stack([angles.cos(), angles.sin()], dim=1)
    train_y, query = torch.tensor([1, 0, 0]), torch.tensor([[2.0, 0.0]])
    assert knn_predict(train_x, train_y, query, k=3, distance="cosine").tolist() == [0]
    for temperature, label in ((0.07, 1), (10.0, 0)):
        predicted = knn_predict(train_x, train_y, query, k=3, distance="cosine", temperature=temperature)
        assert predicted.tolist() == [label]


def test_chunks_change_nothing_and_bound_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    (train_x, train_y), (test_x, _) = _clusters(200), _clusters(101, seed=1)
    whole = knn_predict(train_x, train_y, test_x)
    monkeypatch.setattr(knn, "_MAX_DISTANCES", 1400)
    chunks = [len(scores) for scores in knn._similarities(train_x, test_x, "euclidean")]
    assert chunks == [7] * 14 + [3]
    assert torch.equal(knn_predict(train_x, train_y, test_x), whole)


def test_labels_of_any_integers_and_half_precision_features() -> None:
    (train_x, train_y), (test_x, _) = _clusters(100), _clusters(50, seed=1)
    odd = (train_y * 1000 - 7).to(torch.int16)
    predicted = knn_predict(train_x.bfloat16(), odd, test_x.bfloat16())
    assert predicted.dtype == torch.int16
    assert set(predicted.tolist()) <= set(odd.tolist())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["train", "test"])
def test_features_that_are_not_finite_are_refused(bad: float, side: str) -> None:
    (train_x, train_y), (test_x, _) = _clusters(20), _clusters(10, seed=1)
    (train_x if side == "train" else test_x)[3, 2] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        knn_predict(train_x, train_y, test_x)


def test_bad_requests_are_named() -> None:
    x, y = _clusters(10)
    with pytest.raises(InputError, match="between 1 and the 10 labelled images, got 11"):
        knn_predict(x, y, x, k=11)
    with pytest.raises(InputError, match=r"needs distance=cosine, got 0\.1, euclidean"):
        knn_predict(x, y, x, temperature=0.1)
    with pytest.raises(InputError, match="no images to classify"):
        knn_accuracy(x, y, x[:0], y[:0])
    assert knn_predict(x, y, x[:0]).shape == (0,)


def test_draws_depend_on_labels_and_seed_only() -> None:
    _, labels = _clusters(200)
    draws = few_label_draws(labels, labels_per_class=5, draws=10, seed=3)
    assert len(draws) == 10
    for rows in draws:
        assert len(set(rows.tolist())) == 20
        assert torch.bincount(labels[rows]).tolist() == [5, 5, 5, 5]
    again = few_label_draws(labels, labels_per_class=5, draws=10, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    other = few_label_draws(labels, labels_per_class=5, draws=10, seed=4)
    assert not any(torch.equal(a, b) for a, b in zip(draws, other, strict=True))
    # More draws extend the same list.
    assert torch.equal(few_label_draws(labels, labels_per_class=5, draws=2, seed=3)[1], draws[1])


def test_few_label_accuracies_are_those_of_the_draws() -> None:
    (train_x, train_y), (test_x, test_y) = _clusters(200), _clusters(100, seed=1)
    ours = few_label_knn(train_x, train_y, test_x, test_y, labels_per_class=3, draws=4, seed=1, k=2)
    expected = [
        knn_accuracy(train_x[rows], train_y[rows], test_x, test_y, k=2)
        for rows in few_label_draws(train_y, 3, 4, 1)
    ]
    assert ours == expected
    assert len(set(ours)) > 1


def test_a_class_with_too_few_images_is_named() -> None:
    labels = torch.tensor([7] * 9 + [2] * 3)
    with pytest.raises(InputError, match="class 2 has 3 images, 5 are needed"):
        few_label_draws(labels)


def test_paired_interval_is_students() -> None:
    a, b = [0.9, 0.8, 0.85, 0.95], [0.7, 0.75, 0.8, 0.7]
    ours = paired_interval(a, b)
    theirs = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
    assert ours.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    narrower = paired_interval(a, b, confidence=0.5)
    assert ours.low < narrower.low < narrower.high < ours.high


@pytest.mark.parametrize(("a", "b"), [([1.0], [0.0]), ([1.0, 2.0], [1.0])])
def test_paired_interval_needs_pairs(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more pairs"):
        paired_interval(a, b)
