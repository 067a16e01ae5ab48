from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raysl.evaluation.cache import FeatureCache

KEY = {"weights": "abc", "images": "def"}


class Counting:
    """Makes features and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return torch.arange(12.0).reshape(4, 3)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def test_features_are_computed_once(cache: FeatureCache) -> None:
    compute = Counting()
    first, second = (cache.get("epoch_0001-test", KEY, compute) for _ in range(2))
    assert compute.calls == 1
    assert torch.equal(first, second)


def test_another_key_replaces_them(cache: FeatureCache) -> None:
    compute = Counting()
    cache.get("epoch_0001-test", KEY, compute)
    cache.get("epoch_0001-test", KEY | {"weights": "other"}, compute)
    assert compute.calls == 2
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize("from_end", [1, 40, 200])
def test_a_flipped_bit_is_noticed(
    cache: FeatureCache,
    damage: Callable[[Path, int], None],
    caplog: pytest.LogCaptureFixture,
    from_end: int,
) -> None:
    compute = Counting()
    expected = cache.get("epoch_0001-test", KEY, compute)
    damage(cache.folder / "epoch_0001-test.safetensors", from_end)
    assert torch.equal(cache.get("epoch_0001-test", KEY, compute), expected)
    assert compute.calls == 2
    assert torch.equal(cache.get("epoch_0001-test", KEY, compute), expected)
    assert compute.calls == 2


def test_a_torn_file_is_noticed_aloud(cache: FeatureCache, caplog: pytest.LogCaptureFixture) -> None:
    compute = Counting()
    cache.get("epoch_0001-test", KEY, compute)
    file = cache.folder / "epoch_0001-test.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING, "raysl"):
        cache.get("epoch_0001-test", KEY, compute)
    assert compute.calls == 2
    assert "damaged" in caplog.text


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "features").write_text("in the way")
    compute = Counting()
    with caplog.at_level(logging.WARNING, "raysl"):
        features = FeatureCache(tmp_path / "features").get("epoch_0001-test", KEY, compute)
    assert features.shape == (4, 3)
    assert "not kept" in caplog.text


def test_features_of_deleted_checkpoints_go(cache: FeatureCache) -> None:
    for name in ("epoch_0001-test", "epoch_0002-test", "epoch_0002_step_000010-test", "untrained-test"):
        cache.get(name, KEY, Counting())
    cache.forget_all_but({"untrained", "epoch_0002"})
    assert {file.stem for file in cache.folder.iterdir()} == {"epoch_0002-test", "untrained-test"}
