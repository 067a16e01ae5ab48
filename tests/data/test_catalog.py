"""The catalog, and sources that are named by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysl.data.catalog import CATALOG
from raysl.data.config import DataConfig
from raysl.data.sources import load_split, load_training
from raysl.errors import InputError

from .made import Encode, WriteFolder, WriteParquet


def test_every_entry_is_whole() -> None:
    assert {"digits", "cifar10", "cifar100", "cifar20", "stl10", "tiny-imagenet", "imagenet"} <= set(CATALOG)
    assert {"imagenet50", "imagenet100", "imagenet200", "imagenette", "voc07"} <= set(CATALOG)
    for entry in CATALOG.values():
        assert entry.licence
        assert entry.get
        assert "train" in entry.splits
        assert (entry.mean is None) == (entry.std is None)
        names = entry.class_names()
        if names is not None:
            assert len(names) == len(set(names)) == entry.classes
            assert names == sorted(names)
            assert all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in names)
    small, large = (set(CATALOG[name].class_names() or ()) for name in ("imagenet50", "imagenet200"))
    assert small < large


def test_a_name_is_found_where_it_was_prepared(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    config = DataConfig(source="cifar10", root=str(tmp_path))
    with pytest.raises(InputError, match=r"raysl data prepare cifar10 .*cifar10 --download"):
        load_training(config)
    with pytest.raises(InputError, match="did you mean 'imagenet100'"):
        load_training(DataConfig(source="imagenet10", root=str(tmp_path)))
    images = encoded(12)
    write_parquet(tmp_path / "cifar10" / "train-00000-of-00001.parquet", images[:10], [0] * 10)
    write_parquet(tmp_path / "cifar10" / "test-00000-of-00001.parquet", images[10:], [0] * 2)
    assert sum(len(part) for part in load_training(config)) == 10
    assert len(load_split(config, "test")) == 2
    (tmp_path / "cifar10" / ".prepare").mkdir()
    with pytest.raises(InputError, match="not prepared to the end"):
        load_training(config)


def test_unlabelled_images_are_added_when_asked_for(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(30)
    write_parquet(tmp_path / "train-0.parquet", images[:10], [0, 1] * 5)
    write_parquet(tmp_path / "unlabeled-0.parquet", images[10:], [-1] * 20)
    sizes = {}
    for split in ("train", "unlabeled", "train+unlabeled"):
        config = DataConfig.model_validate({"source": str(tmp_path), "train_split": split})
        train, selection = load_training(config)
        sizes[split] = len(train) + len(selection)
    assert sizes == {"train": 10, "unlabeled": 20, "train+unlabeled": 30}
    labels = np.concatenate([part.labels for part in (train, selection) if part.labels is not None])
    assert sorted(labels) == [-1] * 20 + [0] * 5 + [1] * 5
    assert any("20 of 30 images have no label" in note for note in train.notes)
    only = DataConfig.model_validate(
        {"source": str(tmp_path / "train-0.parquet"), "train_split": "unlabeled"}
    )
    with pytest.raises(InputError, match="no such split"):
        load_training(only)


def test_unlabeled_may_be_a_class(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    names = ("cat/1.png", "dog/1.png", "unlabeled/1.png")
    write_folder(tmp_path, dict(zip(names, encoded(3), strict=True)))
    train, selection = load_training(DataConfig(source=str(tmp_path)))
    assert len(train) + len(selection) == 3
    assert train.class_names == ("cat", "dog", "unlabeled")
