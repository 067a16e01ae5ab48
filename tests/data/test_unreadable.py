"""Unreadable images: both feeds leave out the same ones, say so, and refuse too many."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysl.data.config import DataConfig, SubsetConfig, ViewsConfig
from raysl.data.decoded import content_id, normalization
from raysl.data.feeds import choose_feed
from raysl.data.indexing import index_training
from raysl.data.location import Location
from raysl.data.measure import measure_source
from raysl.data.sample import sample_pictures
from raysl.data.sources import load_split, load_training
from raysl.data.unreadable import Unreadable, check_unreadable, describe_unreadable
from raysl.errors import InputError

from .broken import bad
from .crews import Crew, assert_same, both, feed
from .made import Encode, WriteFolder, WriteParquet

BAD = {name: data for name, (data, _) in bad().items()}


def spoil(file: Path, broken: dict[int, bytes | None]) -> None:
    """Put other bytes in place of some rows of a Parquet file."""
    table = pq.read_table(file)
    rows = table.column("image").to_pylist()
    for row, data in broken.items():
        rows[row] = None if data is None else {"bytes": data}
    kind = table.schema.field("image").type
    pq.write_table(table.set_column(0, "image", pa.array(rows, kind)), file, row_group_size=7)


@pytest.fixture
def spoiled(source: DataConfig) -> DataConfig:
    """90 images in three files, of which 10 are broken: all kinds, a null, and one kind twice."""
    files = [Path(source.source) / f"train-{number}.parquet" for number in range(3)]
    kinds = list(BAD.values())
    spoil(files[0], {0: kinds[0], 13: kinds[1], 14: kinds[2]})
    spoil(files[1], dict(enumerate(kinds[3:8], 20)))
    spoil(files[2], {5: None, 29: kinds[2]})
    return source.model_copy(update={"max_bad": 0.2})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"image_size": 8},
        {"channels": 1},
        {"subset": SubsetConfig(n=40)},
        {"subset": SubsetConfig(fraction=0.5, group="class")},
        {"mean": (0.5,) * 3, "std": (0.2,) * 3},
    ],
)
def test_both_feeds_leave_out_the_same_images(spoiled: DataConfig, change: dict[str, Any]) -> None:
    config = spoiled.model_copy(update=change)
    memory, encoded = both(config)
    _, held_out = load_training(config)
    assert memory.unreadable == encoded.unreadable != ()
    if config.subset is None:
        assert len(memory) + len(held_out) == 80
        assert len(memory.unreadable) == 10
    assert content_id(b"") not in memory.ids
    assert normalization(config, memory) == normalization(config, encoded)
    assert np.array_equal(encoded.rows(np.arange(len(memory))).images, memory.images)
    if config.mean is None:
        assert_same(feed(memory).epoch(1), feed(encoded).epoch(1))


def test_what_is_left_is_as_if_the_others_had_never_been_there(
    spoiled: DataConfig, tmp_path: Path, encoded: Encode
) -> None:
    train, selection = load_training(spoiled)
    for number in range(3):
        file = Path(spoiled.source) / f"train-{number}.parquet"
        rows = [row for row in pq.read_table(file).to_pylist() if _decodes(row["image"])]
        pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(file)), file)
    clean = load_training(spoiled.model_copy(update={"max_bad": 0.0}))
    for one, other in zip((train, selection), clean, strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.images, other.images)
        assert one.labels is not None
        assert other.labels is not None
        assert np.array_equal(one.labels, other.labels)
    assert train.statistics == clean[0].statistics
    assert clean[0].unreadable == ()


def _decodes(image: dict[str, bytes] | None) -> bool:
    return image is not None and image["bytes"] not in BAD.values()


def test_they_are_counted_and_named(spoiled: DataConfig) -> None:
    train, selection = load_training(spoiled)
    files = [f"{spoiled.source}/train-{number}.parquet" for number in range(3)]
    assert [one.where for one in train.unreadable] == [
        *(f"{files[0]} row {row}" for row in (0, 13, 14)),
        *(f"{files[1]} row {row}" for row in range(20, 25)),
        *(f"{files[2]} row {row}" for row in (5, 29)),
    ]
    first = f"{files[0]} row 0 (the file is empty), {files[0]} row 13 ("
    assert train.notes[0].startswith(f"10 of 90 images cannot be read and are left out: {first}")
    assert train.notes[0].endswith(") and 7 more")
    assert selection.unreadable == ()
    for one, (_, reason) in zip(train.unreadable, bad().values(), strict=False):
        assert re.search(reason, one.reason)


@pytest.mark.parametrize("load", [load_training, lambda config: index_training(config, Crew())])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.11])
def test_more_than_allowed_are_refused(
    spoiled: DataConfig, load: Callable[[DataConfig], Any], share: float
) -> None:
    config = spoiled.model_copy(update={"max_bad": share})
    with pytest.raises(InputError, match=r"^10 of 90 images cannot be read.* row 0 \(.* and 7 more;") as told:
        load(config)
    assert f"data.max_bad = {share:g} allows {int(90 * share)}" in str(told.value)
    assert "raysl data prepare" in str(told.value)
    wanted = re.search(r"set data\.max_bad=([\d.]+)$", str(told.value))
    assert wanted is not None
    assert len(load(config.model_copy(update={"max_bad": float(wanted[1])}))[0]) == 72


def test_exactly_the_share_is_allowed() -> None:
    many = [Unreadable(f"x row {row}", "cut") for row in range(29)]
    check_unreadable(many, 100, 0.29)
    with pytest.raises(InputError, match="29 of 101"):
        check_unreadable(many, 101, 0.28)
    with pytest.raises(InputError, match="none of the 29"):
        check_unreadable(many, 29, 1.0)
    assert describe_unreadable([], 100) == ""
    assert (
        describe_unreadable(many[:1], 12_000)
        == "1 of 12,000 images cannot be read and is left out: x row 0 (cut)"
    )


def test_groups_stay_whole_and_fit_what_is_left(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(60)
    images[3] = images[44] = b"no image"
    path = write_parquet(tmp_path / "set.parquet", images, [0, 1] * 30)
    table = pq.read_table(path).append_column("patient", [[n // 6 for n in range(60)]])
    pq.write_table(table, path)
    memory, _ = both(DataConfig(source=str(path), group="patient", max_bad=0.05))
    _, held_out = load_training(DataConfig(source=str(path), group="patient", max_bad=0.05))
    patient = {content_id(image): n // 6 for n, image in enumerate(images)}
    sides = [{patient[int(one)] for one in part.ids} for part in (memory, held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert len(memory) + len(held_out) == 58


def test_image_files_and_test_images_too(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    images = dict(zip((f"train/{'ab'[n % 2]}/{n:02}.png" for n in range(20)), encoded(20), strict=True))
    images |= dict(zip((f"test/{'ab'[n % 2]}/{n:02}.png" for n in range(6)), encoded(6), strict=True))
    images["train/a/04.png"] = b""
    images["test/b/03.png"] = images["test/b/03.png"][:50]
    write_folder(tmp_path, images)
    config = DataConfig(source=str(tmp_path), max_bad=0.2)
    memory, data = both(config)
    assert [one.where for one in data.unreadable] == [str(tmp_path / "train/a/04.png")]
    test = load_split(config, "test")
    assert len(test) == 5
    assert test.labels is not None
    assert test.labels.tolist() == [0, 0, 0, 1, 1]
    assert [one.where for one in test.unreadable] == [str(tmp_path / "test/b/03.png")]
    with pytest.raises(InputError, match=r"1 of 6 images cannot be read.*03\.png"):
        load_split(config.model_copy(update={"max_bad": 0.1}), "test")
    (tmp_path / "train/a/04.png").unlink()
    assert_same(feed(load_training(config)[0], 4).epoch(0), feed(memory, 4).epoch(0))


def test_images_of_sizes_of_their_own(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> None:
    images = [*encoded(10, (12, 18)), *encoded(10, (20, 14))]
    images[0] = images[15] = b"<html>"
    path = write_parquet(tmp_path / "set.parquet", images, [0, 1] * 10)
    config = DataConfig(source=str(path), max_bad=0.1)
    data, held_out = index_training(config, Crew(), shown=8)
    assert data.natural
    assert len(data) + len(held_out) == 18
    squares = load_training(config.model_copy(update={"image_size": 8}))[0]
    assert np.array_equal(squares.ids, data.ids)
    assert squares.statistics == data.statistics


def test_auto_and_pictures_pass_over_them(spoiled: DataConfig, tmp_path: Path) -> None:
    choice = choose_feed(spoiled)
    assert choice.feed == "memory"
    assert len(sample_pictures(spoiled, 90)) == 80
    views = ViewsConfig(preset="w_mse")
    measured = measure_source(spoiled, views, recipe="w_mse", cores=1, seconds=0.01, gpu_rate=1.0)
    assert measured.images == 80
    file = tmp_path / "alone" / "all.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"image": [b"nothing"] * 9}), file)
    with pytest.raises(InputError, match=r"none of the 9 images can be read: .*all\.parquet row 0 "):
        choose_feed(DataConfig(source=str(file)))


def test_a_batch_larger_than_what_is_left_is_refused(spoiled: DataConfig) -> None:
    memory, encoded = both(spoiled)
    for data in (memory, encoded):
        with pytest.raises(InputError, match="batch size 80 with 72 training images"):
            feed(data, 80)
        assert feed(data, 72).steps_per_epoch == 1


def test_one_that_breaks_later_stops_the_run_by_its_name(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder
) -> None:
    write_folder(tmp_path, {f"a/{n:02}.png": image for n, image in enumerate(encoded(20))})
    data, _ = index_training(DataConfig(source=str(tmp_path)), Crew(room=0))
    assert all(isinstance(block, Location) for block in data.blocks)
    batches = feed(data, len(data)).epoch(0)
    (tmp_path / "a/07.png").write_bytes(b"\x89PNG cut")
    with pytest.raises(InputError, match=r"a/07\.png could be read when this began, and no longer"):
        next(batches)


def test_a_file_that_cannot_be_opened_is_no_broken_image(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, {f"a/{n:02}.png": image for n, image in enumerate(encoded(20))})
    config = DataConfig(source=str(tmp_path), max_bad=1.0)
    real = Location.read_bytes

    def refuse(file: Location) -> bytes:
        if file.name == "07.png":
            raise PermissionError(13, "Permission denied", str(file))
        return real(file)

    monkeypatch.setattr(Location, "read_bytes", refuse)
    for load in (load_training, lambda config: index_training(config, Crew())):
        with pytest.raises(InputError, match=r"a/07\.png cannot be opened \(Permission denied\)"):
            load(config)
