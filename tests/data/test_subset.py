"""Subsets of the training images, and groups that stay whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from raysl.data.config import DataConfig, SelectionConfig, SubsetConfig
from raysl.data.decoded import content_id
from raysl.data.sources import count_training, load_training
from raysl.data.splits import in_selection, in_subset
from raysl.errors import InputError

from .made import Encode, WriteFolder, WriteParquet

IDS = np.array([content_id(str(n).encode()) for n in range(1000)], np.uint64)
LABELS = np.repeat(np.arange(4), (500, 300, 150, 50)).astype(np.int64)
GROUPS = np.arange(1000, dtype=np.int64) // 7


def subset(**values: Any) -> SubsetConfig:
    return SubsetConfig.model_validate(values)


@pytest.mark.parametrize("group", ["image", "class", "whole"])
def test_a_subset_is_a_function_of_content_and_seed(group: str) -> None:
    config = subset(n=200, group=group)
    chosen = in_subset(IDS, config, LABELS, GROUPS)
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(in_subset(IDS[order], config, LABELS[order], GROUPS[order]), chosen[order])
    assert 200 - 6 <= chosen.sum() <= 200
    other = in_subset(IDS, subset(n=200, group=group, seed=1), LABELS, GROUPS)
    assert (chosen & other).sum() < 90
    larger = in_subset(IDS, subset(fraction=0.37, group=group), LABELS, GROUPS)
    assert not (chosen & ~larger).any()


def test_by_class_takes_the_same_share_of_each() -> None:
    for n in (20, 101, 333):
        counts = np.bincount(LABELS[in_subset(IDS, subset(n=n, group="class"), LABELS)], minlength=4)
        assert counts.sum() == n
        assert np.abs(counts - n * np.array([0.5, 0.3, 0.15, 0.05])).max() <= 1


def test_whole_groups_are_in_or_out() -> None:
    chosen = in_subset(IDS, subset(fraction=0.3, group="whole"), None, GROUPS)
    assert all(len(set(chosen[group == GROUPS])) == 1 for group in np.unique(GROUPS))
    assert 294 <= chosen.sum() <= 300


def test_equal_images_stay_together() -> None:
    ids = np.concatenate([IDS[:100], IDS[:100]])
    chosen = in_subset(ids, subset(n=51), None, None)
    assert np.array_equal(chosen[:100], chosen[100:])
    assert chosen.sum() == 50


def test_the_selection_holds_whole_groups() -> None:
    config = SelectionConfig(fraction=0.2)
    held = in_selection(IDS, config, GROUPS)
    assert not set(GROUPS[~held]) & set(GROUPS[held])
    assert 194 <= held.sum() <= 200
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(in_selection(IDS[order], config, GROUPS[order] + 5), held[order])
    apart = in_selection(IDS, config)
    assert set(GROUPS[~apart]) & set(GROUPS[apart])  # without groups they are split


def test_an_image_in_two_groups_joins_them() -> None:
    ids = IDS[:40].copy()
    groups = np.arange(40, dtype=np.int64) // 4
    ids[5] = ids[0]  # of groups 1 and 0
    for seed in range(20):
        held = in_selection(ids, SelectionConfig(fraction=0.3, seed=seed), groups)
        assert len(set(held[:8])) == 1
        assert 0 < held.sum() <= 12


def test_large_groups_are_not_preferred() -> None:
    groups = np.concatenate([np.zeros(100), np.arange(1, 901)]).astype(np.int64)
    held = [in_selection(IDS, SelectionConfig(fraction=0.5, seed=seed), groups)[0] for seed in range(200)]
    assert 60 < np.sum(held) < 130


# From a source


def grouped(path: Path, encoded: list[bytes], groups: Any) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": image} for image in encoded], kind)
    labels = pa.array([n % 3 for n in range(len(encoded))])
    pq.write_table(pa.table({"image": images, "label": labels, "patient": pa.array(groups)}), path)
    return path


def test_a_source_is_cut_to_its_subset_and_keeps_its_patients_whole(tmp_path: Path, encoded: Encode) -> None:
    images, patients = encoded(60), [f"p{n // 5}" for n in range(60)]
    path = grouped(tmp_path / "set.parquet", images, patients)
    config = DataConfig.model_validate(
        {"source": str(path), "group": "patient", "subset": {"fraction": 0.5, "group": "whole"}}
        | {"selection": {"fraction": 0.2}}
    )
    train, selection = load_training(config)
    of = {content_id(image): patient for image, patient in zip(images, patients, strict=True)}
    sides = [{of[int(image_id)] for image_id in part.ids} for part in (train, selection)]
    assert len(train) == 25
    assert len(selection) == 5
    assert not sides[0] & sides[1]
    assert train.notes[0] == "data.subset: 30 of 60 training images"
    assert train.notes[-1] == "groups of 'patient' stay whole: 5 to train on, 1 held out"
    assert count_training(config) == 24
    again = load_training(config.model_copy(update={"group": None, "subset": None}))[0]
    assert len(again) == 48


def test_a_subset_of_digits_has_every_class() -> None:
    config = DataConfig.model_validate({"subset": {"n": 100, "group": "class"}})
    train, selection = load_training(config)
    assert len(train) + len(selection) == 100
    assert train.labels is not None
    assert len(np.unique(train.labels)) == 10


def test_what_cannot_be_grouped_is_refused(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, write_folder: WriteFolder
) -> None:
    images = encoded(6)
    table = grouped(tmp_path / "set.parquet", images, ["a", "a", "b", "b", None, "c"])
    plain = write_parquet(tmp_path / "plain.parquet", images)
    folder = write_folder(tmp_path / "folder", {"a/1.png": images[0], "b/2.png": images[1]})
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (table, {"group": "patient"}, "1 of 6 values are missing"),
        (table, {"group": "patent"}, "did you mean 'patient'"),
        (folder, {"group": "patient"}, "image files, which have no columns"),
        ("digits", {"group": "patient"}, "digits have no columns"),
        (plain, {"subset": {"n": 7}}, "there are 6 training images"),
        (plain, {"subset": {"n": 2, "group": "class"}}, "no labels"),
        (plain, {"subset": {"n": 2, "group": "whole"}}, r"data\.group"),
    ]
    for source, values, told in cases:
        with pytest.raises(InputError, match=told) as raised:
            load_training(DataConfig.model_validate({"source": str(source), **values}))
        assert "\n" not in str(raised.value)
    for wrong in ({}, {"n": 3, "fraction": 0.5}, {"fraction": 0}):
        with pytest.raises(ValidationError, match="subset"):
            DataConfig.model_validate({"subset": wrong})
