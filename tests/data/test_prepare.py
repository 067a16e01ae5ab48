"""`prepare`: what goes into shards, what is left out, and what the papers say of it."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysl.data.config import DataConfig, SelectionConfig
from raysl.data.decode import decode_image
from raysl.data.decoded import Normalization
from raysl.data.prepare.find import find_splits
from raysl.data.prepare.manifest import Prepared
from raysl.data.prepare.pixels import Shape, Treatment
from raysl.data.prepare.prepare import Limit, Request, prepare
from raysl.data.sources import load_split, load_training
from raysl.errors import InputError, RayslError

from .broken import bad, odd
from .made import Encode, WriteFolder, WriteParquet, encode, pictures

if TYPE_CHECKING:
    from raysl.cluster.connect import ClusterInfo

Make = Callable[..., Prepared]


@pytest.fixture
def make(ray_cluster: ClusterInfo) -> Make:
    def prepared(source: Path | str, out: Path | str, **values: Any) -> Prepared:
        said: list[str] = values.pop("said", [])
        return prepare(str(source), find_splits(str(source)), str(out), Request(**values), said.append)

    return prepared


def rows_of(out: Path, split: str) -> list[dict[str, Any]]:
    files = sorted(out.glob(f"{split}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture
def photos(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> Path:
    """Return a folder of 30 images to train on and 6 to test, of three classes."""
    images = encoded(36, kind="JPEG")
    names = [f"train/{'abc'[n // 10]}/{n}.jpg" for n in range(30)]
    names += [f"test/{'abc'[n // 2]}/{n}.jpg" for n in range(6)]
    return write_folder(tmp_path / "photos", dict(zip(names, images, strict=True)))


def test_a_prepared_folder_is_the_same_source(tmp_path: Path, photos: Path, make: Make) -> None:
    out = tmp_path / "out"
    prepared = make(photos, out, shard_rows=8, group_rows=3)
    assert prepared.made == 5
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        "recorded",
        "test-00000-of-00001.parquet",
        *(f"train-0000{n}-of-00004.parquet" for n in range(4)),
    ]
    for split in ("train", "selection", "test"):
        before = load_split(DataConfig(source=str(photos)), split)
        after = load_split(DataConfig(source=str(out)), split)
        one, two = np.argsort(before.ids), np.argsort(after.ids)
        assert np.array_equal(before.ids[one], after.ids[two])
        assert np.array_equal(before.images[one], after.images[two])
        assert before.labels is not None
        assert after.labels is not None
        assert np.array_equal(before.labels[one], after.labels[two])
        assert before.class_names == after.class_names == ("a", "b", "c")


def test_shards_are_even_and_hold_every_class(tmp_path: Path, photos: Path, make: Make) -> None:
    make(photos, tmp_path / "out", shard_rows=8, group_rows=3)
    for file in sorted((tmp_path / "out").glob("train-*")):
        read = pq.ParquetFile(file)
        sizes = [read.metadata.row_group(n).num_rows for n in range(read.num_row_groups)]
        assert sum(sizes) in (7, 8)
        assert max(sizes) <= 3
        assert max(sizes) - min(sizes) <= 1
        assert len(set(read.read(["label"]).column(0).to_pylist())) > 1
        names = json.loads(read.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        assert names == ["a", "b", "c"]


def test_the_manifest_says_what_is_there(tmp_path: Path, photos: Path, make: Make) -> None:
    out = tmp_path / "out"
    make(photos, out, shard_rows=8)
    manifest = json.loads((out / "manifest.json").read_text())
    for split, count in (("train", 30), ("test", 6)):
        told = manifest["splits"][split]
        assert told["rows"] == count
        assert told["class_names"] == ["a", "b", "c"]
        for shard in told["shards"]:
            data = (out / shard["name"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == shard["sha256"]
            assert len(data) == shard["bytes"]
            assert sum(shard["groups"]) == shard["rows"] == pq.read_metadata(out / shard["name"]).num_rows
    config = DataConfig(source=str(out), selection=SelectionConfig(fraction=0))
    found: Normalization = load_training(config)[0].statistics
    assert np.allclose(manifest["splits"]["train"]["mean"], found.mean, rtol=1e-12)
    assert np.allclose(manifest["splits"]["train"]["std"], found.std, rtol=1e-9)


def test_broken_images_are_listed_and_odd_ones_counted(
    tmp_path: Path, write_folder: WriteFolder, make: Make
) -> None:
    broken, strange = bad(), odd()
    files = {name: data for name, (data, _) in (broken | strange).items()}
    folder = write_folder(tmp_path / "in", {f"{n % 2}/{name}": files[name] for n, name in enumerate(files)})
    out = tmp_path / "out"
    manifest = make(folder, out, limit=Limit(number=len(broken))).manifest["splits"]["train"]
    rejected = {Path(row["path"]).name: row for row in pq.read_table(out / "rejected.parquet").to_pylist()}
    assert set(rejected) == set(broken)
    for name, (_, reason) in broken.items():
        assert re.search(reason, rejected[name]["reason"]), rejected[name]
        assert rejected[name]["split"] == "train"
        assert rejected[name]["label"] in ("0", "1")
    assert manifest["rejected"] == len(broken)
    kept = {Path(row["image"]["path"]).name: row["image"]["bytes"] for row in rows_of(out, "train")}
    assert kept == {name: data for name, (data, _) in strange.items()}
    counts: dict[str, int] = {}
    for _, traits in strange.values():
        for trait in traits:
            counts[trait] = counts.get(trait, 0) + 1
    assert manifest["converted"] == counts
    assert len(load_training(DataConfig(source=str(out), image_size=8))[0]) == len(strange) - 1


def test_too_many_broken_images_end_it_with_the_list(
    tmp_path: Path, write_folder: WriteFolder, encoded: Encode, make: Make
) -> None:
    images = encoded(200)
    images[7] = images[42] = images[99] = b"no image"
    folder = write_folder(tmp_path / "in", {f"a/{n:03d}.png": image for n, image in enumerate(images)})
    out, said = tmp_path / "out", []  # type: tuple[Path, list[str]]
    with pytest.raises(
        RayslError, match=r"3 of 200 images .*--max-bad 1% allows 2: .*rejected\.parquet"
    ) as end:
        make(folder, out, said=said)
    assert end.value.exit_code == 1
    assert "\n" not in str(end.value)
    assert sorted(line.split(":")[1].strip() for line in said) == ["a/007.png", "a/042.png", "a/099.png"]
    assert pq.read_metadata(out / "rejected.parquet").num_rows == 3
    with pytest.raises(InputError, match="not prepared to the end"):
        load_training(DataConfig(source=str(out)))
    assert make(folder, out, limit=Limit(share=0.02)).made == 0  # it is there already
    assert len(rows_of(out, "train")) == 197
    assert len(load_training(DataConfig(source=str(out), selection=SelectionConfig(fraction=0)))[0]) == 197


def test_sizes_of_training_and_evaluation_images(
    tmp_path: Path, write_folder: WriteFolder, make: Make
) -> None:
    big, small, tall = (pictures(1, size)[0] for size in ((60, 100), (20, 30), (100, 64)))
    files = {
        "train/a/big.png": encode(big),
        "train/a/small.png": encode(small),
        "train/b/t.jpg": encode(tall),
    }
    files |= {"val/a/big.png": encode(big), "val/b/small.png": encode(small)}
    treatment = Treatment(Shape(40), Shape(32, 24), quality=80)
    manifest = make(write_folder(tmp_path / "in", files), tmp_path / "out", treatment=treatment).manifest
    train = {row["image"]["path"]: row["image"]["bytes"] for row in rows_of(tmp_path / "out", "train")}
    assert train["train/a/small.png"] == files["train/a/small.png"]
    sizes = {name: Image.open(io.BytesIO(data)).size for name, data in train.items()}
    assert sizes == {"train/a/big.png": (66, 40), "train/a/small.png": (30, 20), "train/b/t.jpg": (40, 62)}
    for row in rows_of(tmp_path / "out", "val"):
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert (image.size, image.format) == ((24, 24), "JPEG")
    expected = Image.fromarray(big).resize((66, 40), Image.Resampling.BILINEAR)
    found, _ = decode_image(train["train/a/big.png"], 3, None)
    assert np.abs(found.transpose(1, 2, 0).astype(int) - np.asarray(expected)).mean() < 6
    assert (manifest["splits"]["train"]["resized"], manifest["splits"]["val"]["resized"]) == (2, 2)


def test_columns_of_a_parquet_file_are_kept_and_rows_keep_their_order(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, make: Make
) -> None:
    images = encoded(20)
    path = write_parquet(tmp_path / "set.parquet", images, [f"c{n % 3}" for n in range(20)])
    table = pq.read_table(path).append_column("patient", [[f"p{n // 4}" for n in range(20)]])
    pq.write_table(table, path, row_group_size=6)
    make(path, tmp_path / "out", shard_rows=7)
    rows = rows_of(tmp_path / "out", "train")
    assert [row["image"]["bytes"] for row in rows] == images
    assert [row["patient"] for row in rows] == [f"p{n // 4}" for n in range(20)]
    assert [row["label"] for row in rows] == [n % 3 for n in range(20)]
    config = DataConfig(source=str(tmp_path / "out"), group="patient")
    assert any("groups of 'patient'" in note for note in load_training(config)[0].notes)


def test_a_uri_is_written_like_a_folder(tmp_path: Path, photos: Path, make: Make) -> None:
    make(photos, tmp_path / "here", shard_rows=8)
    make(photos, f"file://{tmp_path}/there", shard_rows=8)
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.parquet")}
        for name in ("here", "there")
    ]
    assert files[0] == files[1]
    with pytest.raises(InputError, match="nosuch"):
        make(photos, "nosuch://bucket/set")
