"""The selection split, and the statistics of what is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysl.data.config import DataConfig, SelectionConfig
from raysl.data.decoded import Decoded, normalization
from raysl.data.layout import Split
from raysl.data.sources import load_split, load_training
from raysl.data.splits import in_selection
from raysl.errors import InputError

from .made import Encode, WriteParquet, pixels_of, whole


@pytest.mark.parametrize("split", ["train", "selection"])
def test_splits_load_alone_as_together(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, split: Split
) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(40), list(range(40)))
    config = DataConfig(source=str(path), selection=SelectionConfig(fraction=0.25))
    train, selection = load_training(config)
    alone, together = load_split(config, split), train if split == "train" else selection
    assert np.array_equal(alone.images, together.images)
    assert np.array_equal(alone.ids, together.ids)


def test_selection_is_a_complement_and_does_not_depend_on_rows(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(40)
    images += images[:10]  # duplicates
    order = np.random.default_rng(0).permutation(50)
    first = write_parquet(tmp_path / "one.parquet", images, list(range(50)))
    second = write_parquet(tmp_path / "two.parquet", [images[n] for n in order], order.tolist())
    chosen = []
    for path in (first, second):
        source = DataConfig(source=str(path), selection=SelectionConfig(fraction=0.3))
        train, selection = load_training(source)
        assert train.labels is not None
        assert selection.labels is not None
        assert sorted(train.labels.tolist() + selection.labels.tolist()) == list(range(50))
        assert not set(train.ids.tolist()) & set(selection.ids.tolist())
        for part in (train, selection):
            assert part.labels is not None
            expected = np.stack([pixels_of(images[n]) for n in part.labels])
            assert np.array_equal(part.images, expected)
        chosen.append(set(selection.labels.tolist()))
    assert chosen[0] == chosen[1]
    assert 13 <= len(chosen[0]) <= 15


def test_selection_size_and_seed() -> None:
    ids = np.arange(1000, dtype=np.uint64)
    assert in_selection(ids, SelectionConfig()).sum() == 100
    assert in_selection(ids, SelectionConfig(maximum=7)).sum() == 7
    assert in_selection(ids, SelectionConfig(fraction=0)).sum() == 0
    assert in_selection(ids[:3], SelectionConfig()).sum() == 1
    assert in_selection(ids[:1], SelectionConfig()).sum() == 0
    other = in_selection(ids, SelectionConfig(seed=1))
    assert (in_selection(ids, SelectionConfig()) & other).sum() < 40


# Statistics


def test_statistics_are_those_of_the_pixels(
    encoded: Encode, tmp_path: Path, write_parquet: WriteParquet
) -> None:
    data = whole(DataConfig(source=str(write_parquet(tmp_path / "a.parquet", encoded(30)))))
    found = normalization(DataConfig(), data)
    assert np.allclose(found.mean, (data.images / 255).mean((0, 2, 3)), rtol=1e-12)
    assert np.allclose(found.std, (data.images / 255).std((0, 2, 3)), rtol=1e-12)
    assert normalization(DataConfig(mean=(0.1, 0.2, 0.3), std=(1, 1, 1)), data).mean == (0.1, 0.2, 0.3)
    with pytest.raises(InputError, match="1 values, but the images have 3"):
        normalization(DataConfig(mean=(0.1,), std=(1,)), data)
    constant = Decoded(np.zeros((3, 1, 2, 2), np.uint8), None, data.ids[:3])
    with pytest.raises(InputError, match="same value"):
        normalization(DataConfig(), constant)
