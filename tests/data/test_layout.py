"""Which files are whose split: told by names, and test images never trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysl.data.config import DataConfig
from raysl.data.decoded import content_id
from raysl.data.sources import load_split, load_training
from raysl.errors import InputError

from .made import Encode, WriteFolder, WriteParquet, whole


@pytest.mark.parametrize("name", ["test", "Test", "val", "Val", "validation"])
def test_class_folders_beside_a_test_folder_never_train_on_it(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder, name: str
) -> None:
    images = encoded(3)
    names = ["cat/1.png", "dog/2.png", f"{name}/cat/3.png"]
    config = DataConfig(source=str(write_folder(tmp_path, dict(zip(names, images, strict=True)))))
    train, test = whole(config), load_split(config, "test")
    assert train.ids.tolist() == [content_id(image) for image in images[:2]]
    assert train.class_names == ("cat", "dog")
    assert test.ids.tolist() == [content_id(images[2])]
    assert test.labels is not None
    assert test.labels.tolist() == [0]


def test_split_folders_are_found_however_they_are_written(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder
) -> None:
    names = ["Train/train/1.png", "Train/bus/2.png", "TEST/train/3.png"]
    config = DataConfig(source=str(write_folder(tmp_path, dict(zip(names, encoded(3), strict=True)))))
    assert whole(config).class_names == ("bus", "train")
    assert len(whole(config)) == 2
    assert len(load_split(config, "test")) == 1


def test_a_class_may_be_called_train(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    names = ["train/bus/1.png", "train/train/2.png", "test/bus/3.png", "test/train/4.png"]
    write_folder(tmp_path, dict(zip(names, encoded(4), strict=True)))
    config = DataConfig(source=str(tmp_path / "train"), test=str(tmp_path / "test"))
    assert whole(config).class_names == ("bus", "train")
    assert len(load_split(config, "test")) == 2


def test_split_folders_within_class_folders_keep_the_classes(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder
) -> None:
    names = ["cat/train/1.png", "dog/train/2.png", "dog/test/3.png"]
    config = DataConfig(source=str(write_folder(tmp_path, dict(zip(names, encoded(3), strict=True)))))
    assert whole(config).class_names == ("cat", "dog")
    assert len(whole(config)) == 2


def test_a_folder_of_test_images_alone_is_not_trained_on(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder
) -> None:
    write_folder(tmp_path, {"test/cat/1.png": encoded(1)[0]})
    with pytest.raises(InputError, match="only test or val"):
        load_training(DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("digits-train", "digits-test"),
        ("data_train", "data_test"),
        ("Train.v2", "v2.TEST"),
        ("train-00000-of-00001", "test-00000-of-00001"),
        ("part-0", "val-of-train"),
        ("contested", "test1"),
    ],
)
def test_a_word_of_a_parquet_files_name_tells_its_split(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, train: str, test: str
) -> None:
    images = encoded(3)
    write_parquet(tmp_path / f"{train}.parquet", images[:2], [0, 1])
    write_parquet(tmp_path / f"{test}.parquet", images[2:], [0])
    config = DataConfig(source=str(tmp_path))
    assert len(whole(config)) == 2
    assert load_split(config, "test").ids.tolist() == [content_id(images[2])]


def test_a_folder_of_parts_may_be_called_as_a_parquet_file(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(3)
    write_parquet(tmp_path / "train.parquet/part-0.parquet", images[:2], [0, 1])
    write_parquet(tmp_path / "test.parquet/part-0.parquet", images[2:], [0])
    assert len(whole(DataConfig(source=str(tmp_path / "train.parquet")))) == 2
    assert len(whole(DataConfig(source=str(tmp_path)))) == 2
    assert len(load_split(DataConfig(source=str(tmp_path)), "test")) == 1


def test_the_test_split_may_lie_beside_a_training_file(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(4)
    config = DataConfig(source=str(write_parquet(tmp_path / "digits-train.parquet", images[:2], [0, 1])))
    write_parquet(tmp_path / "faces-test.parquet", images[2:3], [0])
    with pytest.raises(InputError, match=r"data\.test, or put digits-test\.parquet beside it"):
        load_split(config, "test")
    write_parquet(tmp_path / "digits-test.parquet", images[3:], [0])
    assert load_split(config, "test").ids.tolist() == [content_id(images[3])]
