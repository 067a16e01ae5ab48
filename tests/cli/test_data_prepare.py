"""`raysl data list` and `raysl data prepare` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raysl.data.catalog import CATALOG
from tests.data.made import encode, pictures

from .conftest import Commands

if TYPE_CHECKING:
    from raysl.cluster.connect import ClusterInfo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of 40 images, one of them no image."""
    for number, picture in enumerate(pictures(40, (30, 40))):
        for split in ("train", "val"):
            path = tmp_path / "photos" / split / "abcd"[number % 4] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(picture, "JPEG"))
    (tmp_path / "photos" / "train" / "a" / "0.jpg").write_bytes(b"")
    return tmp_path / "photos"


def test_the_list_has_every_entry(raysl: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = raysl("data", "list").out
    assert max(map(len, shown.splitlines())) <= 80
    shown = " ".join(shown.split())
    listed = raysl("data", "list", "--json").json
    assert [entry["name"] for entry in listed] == list(CATALOG)
    for entry in listed:
        assert f"{entry['name']}: {entry['title']}" in shown
        assert entry["get"] in shown
        assert entry["licence"] in shown
    assert "train 50,000, test 10,000" in shown


def test_a_folder_is_prepared_and_trained_on(
    tmp_path: Path, photos: Path, raysl: Commands, ray_cluster: ClusterInfo
) -> None:
    out = tmp_path / "out"
    words = ("data", "prepare", str(photos), str(out), "--rows", "10", "--max-bad", "2")
    ended = raysl(*words, "--evaluation-size", "24:16", "--json")
    assert ended.code == 0, ended.err
    train, val = ended.json["splits"]["train"], ended.json["splits"]["val"]
    assert (train["rows"], train["rejected"], train["resized"]) == (39, 1, 0)
    assert (val["rows"], val["resized"], val["classes"]) == (40, 40, 4)
    assert ended.json["made"] == 8
    again = raysl(*words, "--evaluation-size", "24:16")
    assert "train: 39 images, 4 classes, 4 shards" in again.out
    assert "1 rejected" in again.out
    run = (
        f"data.source={out}",
        "data.image_size=16",
        "data.subset={n: 24, group: class}",
        "train.batch_size=16",
    )
    planned = raysl("pretrain", str(raysl.recipe), *run, "--dry-run")
    assert planned.code == 0, planned.err
    assert "data.subset: 24 of 39 training images" in planned.out


def test_some_classes_and_splits(
    tmp_path: Path, photos: Path, raysl: Commands, ray_cluster: ClusterInfo
) -> None:
    (tmp_path / "classes.txt").write_text("b\nd\n")
    out = tmp_path / "out"
    words = ("--classes", str(tmp_path / "classes.txt"), "--split", "val")
    assert raysl("data", "prepare", str(photos), str(out), *words).code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["splits"]) == ["val"]
    assert manifest["splits"]["val"]["class_names"] == ["b", "d"]
    assert manifest["splits"]["val"]["rows"] == 20


def test_too_many_broken_images_are_a_failure(
    tmp_path: Path, photos: Path, raysl: Commands, ray_cluster: ClusterInfo
) -> None:
    ended = raysl("data", "prepare", str(photos), str(tmp_path / "out"), "--max-bad", "0")
    assert ended.code == 1
    assert "train: train/a/0.jpg: the file is empty" in ended.out
    assert ended.err.count("\n") == 1
    assert "rejected.parquet lists them" in ended.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere", "out"), "nowhere does not exist"),
        (("cifar10", "out"), "where is it"),
        (("imagenet", "out", "--download"), "torchvision cannot download it"),
        (("digits", "out", "--max-bad", "1.5"), "--max-bad 1.5"),
        (("digits", "out", "--max-bad", "101%"), "--max-bad 101%"),
        (("digits", "out", "--rows", "0"), "--rows 0"),
        ((".", "out"), "out lies in ."),
        (("digits", "out", "--evaluation-size", "224x224"), "--evaluation-size 224x224"),
        (("digits", "out", "--evaluation-size", "224:256"), "does not fit"),
        (("digits", "out", "--quality", "0"), "--quality 0"),
        (("digits", "out", "--split", "val"), "--split val: digits has train, test"),
        (("digits", "out", "--classes", "none.txt"), "--classes none.txt"),
    ],
)
def test_what_cannot_be_prepared_is_refused(raysl: Commands, words: tuple[str, ...], told: str) -> None:
    ended = raysl("data", "prepare", *words)
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1
