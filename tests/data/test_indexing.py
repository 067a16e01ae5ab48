"""What the `ray` feed reads before training: the images, ids, labels and notes of the `memory` feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysl.data import indexing
from raysl.data.config import DataConfig, SelectionConfig, SubsetConfig
from raysl.data.decoded import normalization
from raysl.data.indexing import index_training
from raysl.data.location import Location
from raysl.data.sources import load_training
from raysl.errors import InputError

from .crews import Crew, assert_same, both, feed
from .made import Encode, WriteFolder


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 8},
        {"channels": 1},
        {"label_column": None, "selection": SelectionConfig(fraction=0)},
        {"subset": SubsetConfig(n=40)},
        {"subset": SubsetConfig(fraction=0.5, group="class")},
        {"mean": (0.5,) * 3, "std": (0.2,) * 3},
    ],
)
def test_whatever_the_config_says_both_feeds_train_on_the_same(
    source: DataConfig, change: dict[str, Any]
) -> None:
    config = source.model_copy(update=change)
    memory, encoded = both(config)
    assert normalization(config, memory) == normalization(config, encoded)
    rows = np.arange(len(memory))
    assert np.array_equal(encoded.rows(rows).images, memory.images)


def test_folders_of_images_too(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    write_folder(tmp_path, {f"{'ab'[i % 2]}/{i}.png": image for i, image in enumerate(encoded(20))})
    memory, data = both(DataConfig(source=str(tmp_path)))
    assert data.class_names == ("a", "b")
    assert_same(feed(memory, 4).epoch(0), feed(data, 4).epoch(0))


def test_a_corrupt_image_is_named_before_training(source: DataConfig) -> None:
    file = Path(source.source) / "train-1.parquet"
    table = pq.read_table(file)
    rows = table.column("image").to_pylist()
    rows[17] = {"bytes": rows[17]["bytes"][:60]}
    pq.write_table(table.set_column(0, "image", pa.array(rows, table.schema.field("image").type)), file)
    told = []
    for load in (load_training, lambda config: index_training(config, Crew())):
        with pytest.raises(InputError, match=r"1 of 90 .* allows 0.*train-1.parquet row 17 \(") as caught:
            load(source)
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_a_damaged_file_is_named(source: DataConfig) -> None:
    file = Path(source.source) / "train-2.parquet"
    raw = bytearray(file.read_bytes())
    raw[4:1500] = bytes(1496)
    file.write_bytes(raw)
    with pytest.raises(InputError, match=r"train-2.parquet is not a readable Parquet file"):
        index_training(source, Crew())


def test_larger_sets_are_read_from_where_they_are(source: DataConfig) -> None:
    total = 0
    for file in Path(source.source).iterdir():
        table = pq.read_table(file)
        pq.write_table(table, file, row_group_size=7, compression="none", use_dictionary=False)
        total += file.stat().st_size
    memory, encoded = both(source, Crew(room=total))
    assert all(isinstance(block, Location) for block in encoded.blocks)
    assert_same(feed(memory).epoch(0), feed(encoded).epoch(0))


@pytest.mark.parametrize(
    "options", [{"compression": "zstd"}, {"compression": "none", "use_dictionary": True}]
)
def test_larger_sets_that_cannot_be_read_from_where_they_are_are_refused(
    source: DataConfig, options: dict[str, Any]
) -> None:
    for file in Path(source.source).iterdir():
        pq.write_table(pq.read_table(file), file, **options)
    with pytest.raises(InputError, match=r"'image' is (compressed \(zstd\)|written as a dictionary), so its"):
        index_training(source, Crew(room=1000))


def test_digits_have_nothing_to_decode() -> None:
    with pytest.raises(InputError, match=r"data.feed = ray: the digits come decoded"):
        index_training(DataConfig(), Crew())


def test_pieces_are_balanced_and_in_order(source: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_SMALLEST", 1)
    _, encoded = both(source)
    assert 6 < len(encoded.blocks) <= 15
