"""The record of a prepared set: a run on it looks at no image, and knows the same to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysl.data.config import DataConfig, SelectionConfig, SubsetConfig
from raysl.data.indexing import index_training
from raysl.data.prepare import recorded
from raysl.data.prepare.find import find_splits
from raysl.data.prepare.pixels import Shape, Treatment
from raysl.data.prepare.prepare import Limit, Request, prepare

from .broken import odd
from .crews import Crew, assert_same, both, feed
from .made import WriteFolder, encode, pictures

if TYPE_CHECKING:
    from raysl.cluster.connect import ClusterInfo

SHARDS = 3


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory, write_folder: WriteFolder, ray_cluster: ClusterInfo
) -> Path:
    """Return a prepared set of 45 JPEGs; another image could not be read."""
    images = [encode(picture, "JPEG") for picture in pictures(45)]
    files = {f"train/{'abc'[n % 3]}/{n:02}.jpg": image for n, image in enumerate(images)}
    folder = tmp_path_factory.mktemp("recorded")
    write_folder(folder / "in", files | {"train/a/40.jpg": b"no image"})
    out = folder / "out"
    request = Request(shard_rows=15, group_rows=4, limit=Limit(number=2))
    prepare("in", find_splits(str(folder / "in")), str(out), request, print)
    return out


@pytest.fixture
def out(original: Path, tmp_path: Path) -> Path:
    """Return a copy, as one lies on another node: times of files are others."""
    for file in (file for file in original.rglob("*") if file.is_file()):
        copy = tmp_path / "set" / file.relative_to(original)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path / "set"


def looks(config: DataConfig, room: int = 1 << 30) -> int:
    """Return how many images are decoded before training to look at them."""
    crew = Crew(room=room)
    index_training(config, crew)
    return crew.images.get("look", 0)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"image_size": 12},
        {"subset": SubsetConfig(n=20)},
        {"mean": (0.5,) * 3, "std": (0.2,) * 3},
    ],
)
@pytest.mark.parametrize("room", [1 << 30, 1000])
def test_no_image_is_looked_at_and_all_is_known_to_the_bit(
    out: Path, change: dict[str, Any], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig.model_validate({"source": str(out), **change})
    assert looks(config, room) == 0
    (known, held), (memory, _) = index_training(config, Crew(room)), both(config, Crew(room))
    monkeypatch.setattr("raysl.data.indexing.recall", lambda *_: None)
    crew = Crew(room)
    seen, seen_held = index_training(config, crew)
    assert crew.images["look"] == (20 if config.subset else 45)
    for name in ("ids", "shapes", "first", "second", "labels"):
        one, other = getattr(known, name), getattr(seen, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other), name
    assert np.array_equal(held.images, seen_held.images)
    assert known.notes == seen.notes
    if config.mean is None:
        assert known.statistics == seen.statistics == memory.statistics
        assert_same(feed(known, 8).epoch(0), feed(memory, 8).epoch(0))


def test_images_that_decoding_converts_or_preparing_resizes(
    tmp_path: Path, write_folder: WriteFolder, ray_cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n % 2}/{name}": data for n, (name, (data, _)) in enumerate(odd().items())}
    folder = write_folder(tmp_path / "in", files | {"0/big.png": encode(pictures(1, (50, 70))[0])})
    treatment = Treatment(Shape(40))
    prepare("in", find_splits(str(folder)), str(tmp_path / "out"), Request(treatment=treatment), print)
    all_of_them = SelectionConfig(fraction=0)
    config = DataConfig(source=str(tmp_path / "out"), mean=(0.5,) * 3, std=(0.2,) * 3, selection=all_of_them)
    crew = Crew()
    known, _ = index_training(config, crew, shown=8)
    assert "look" not in crew.images
    statistics = config.model_copy(update={"mean": None, "std": None})
    # Those of the squares that are shown are not on record.
    measured, _ = index_training(statistics, crew, shown=8)
    assert crew.images["look"] == len(files) + 1
    monkeypatch.setattr("raysl.data.indexing.recall", lambda *_: None)
    seen, _ = index_training(statistics, Crew(), shown=8)
    assert np.array_equal(known.shapes, seen.shapes)
    assert known.shapes.max() == 56
    assert measured.statistics == seen.statistics


@pytest.mark.parametrize("change", [{"image_size": 8}, {"channels": 1}], ids=["other size", "grey"])
def test_images_that_are_stored_otherwise_are_looked_at(out: Path, change: dict[str, Any]) -> None:
    assert looks(DataConfig.model_validate({"source": str(out), **change})) == 45


def test_a_relative_path_a_uri_and_a_single_shard_too(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out.parent)
    assert looks(DataConfig(source="set")) == 0
    assert looks(DataConfig(source=f"file://{out}")) == 0
    assert looks(DataConfig(source=f"set/{shards(out)[1].name}")) == 0


def shards(out: Path) -> list[Path]:
    return sorted(out.glob("train-*.parquet"))


def edit_manifest(out: Path, **values: Any) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][1].update(values)
    (out / "manifest.json").write_text(json.dumps(manifest))


def write_again(out: Path) -> None:
    """Write a shard with the same rows, but the first two in each other's place."""
    table, file = pq.read_table(shards(out)[1]), shards(out)[1]
    rows = [1, 0, *range(2, len(table))]
    schema = pq.read_schema(file)
    compression = {"image.bytes": "NONE", "image.path": "ZSTD", "label": "ZSTD"}
    with pq.ParquetWriter(file, schema, compression=compression, use_dictionary=False) as writer:
        for start in range(0, len(table), 4):
            writer.write_table(table.take(rows).slice(start, 4))


def other_pixels(out: Path) -> None:
    """Change a byte of an image, which changes neither a size nor the footer."""
    file = shards(out)[1]
    image = pq.read_table(file).column("image")[3].as_py()["bytes"]
    data = bytearray(file.read_bytes())
    data[data.index(image) + len(image) - 3] ^= 0x10
    file.write_bytes(data)


def other_record(out: Path) -> None:
    file = out / recorded.record_of(shards(out)[0].name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        write_again,
        other_pixels,
        other_record,
        lambda out: (out / "manifest.json").unlink(),
        lambda out: (out / "manifest.json").write_text('{"splits": ['),
        lambda out: (out / recorded.record_of(shards(out)[2].name)).unlink(),
        lambda out: edit_manifest(out, bytes=7),
        lambda out: edit_manifest(out, footer="0"),
        lambda out: edit_manifest(out, rows=3),
        lambda out: edit_manifest(out, decoder="Pillow 1.0"),
        lambda out: edit_manifest(out, name="other.parquet"),
        lambda out: shards(out)[0].rename(out / "train-9.parquet"),
    ],
)
def test_what_has_changed_is_not_trusted(out: Path, change: Any) -> None:
    config = DataConfig(source=str(out), max_bad=0.1)
    assert looks(config) == 0
    change(out)
    assert looks(config) == 45
    both(config)


def test_a_footer_that_changed_is_noticed_without_reading_the_images(out: Path) -> None:
    config = DataConfig(source=str(out))
    assert looks(config, room=1000) == 0
    file = shards(out)[1]
    data = bytearray(file.read_bytes())
    data[data.rindex(b"parquet-cpp")] ^= 0x20
    file.write_bytes(data)
    assert looks(config, room=1000) == 45


def test_a_set_prepared_before_there_were_records_gets_them_when_it_is_prepared_again(
    tmp_path: Path, write_folder: WriteFolder, ray_cluster: ClusterInfo
) -> None:
    images = [encode(picture) for picture in pictures(12)]
    folder = write_folder(tmp_path / "in", {f"a/{n}.png": image for n, image in enumerate(images)})
    out, splits = tmp_path / "out", find_splits(str(folder))
    prepare("in", splits, str(out), Request(shard_rows=4), print)
    before = {file.name: file.read_bytes() for file in shards(out)}
    manifest = json.loads((out / "manifest.json").read_text())
    for shard in manifest["splits"]["train"]["shards"]:
        del shard["footer"], shard["recorded"], shard["decoder"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    for file in (out / recorded.FOLDER).iterdir():
        file.unlink()
    assert looks(DataConfig(source=str(out))) == 12
    assert prepare("in", splits, str(out), Request(shard_rows=4), print).made == SHARDS
    assert {file.name: file.read_bytes() for file in shards(out)} == before
    assert looks(DataConfig(source=str(out))) == 0
