"""Sources of every layout, splits that never overlap, and errors that say what to do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from raysl.data.config import DataConfig, SelectionConfig
from raysl.data.decode import decode_image
from raysl.data.decoded import content_id
from raysl.data.sources import load_split, load_training
from raysl.errors import InputError

from .made import Encode, WriteFolder, WriteParquet, encode, pictures, pixels_of, whole

# Digits


def test_digits_are_split_once_and_for_all() -> None:
    train, selection = load_training(DataConfig())
    test = load_split(DataConfig(), "test")
    assert len(train) + len(selection) + len(test) == 1797
    assert train.images.shape[1:] == (1, 8, 8)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert not set(train.ids.tolist()) & set(test.ids.tolist())
    assert not set(train.ids.tolist()) & set(selection.ids.tolist())
    assert test.labels is not None
    assert np.bincount(test.labels).min() >= 34
    assert test.class_names == tuple("0123456789")


def test_digits_in_three_channels_repeat_the_grey() -> None:
    grey, rgb = load_split(DataConfig(), "test"), load_split(DataConfig(channels=3), "test")
    assert np.array_equal(rgb.images, np.repeat(grey.images, 3, axis=1))


# Parquet


@pytest.mark.parametrize("plain", [False, True])
def test_parquet_rows_come_in_order(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, plain: bool
) -> None:
    images = encoded(20)
    names = ["cat", "dog", "owl"]
    labels = [n % 3 for n in range(20)]
    path = write_parquet(tmp_path / "set.parquet", images, labels, plain=plain, names=names)
    data = whole(DataConfig(source=str(path)))
    assert np.array_equal(data.images, np.stack([pixels_of(image) for image in images]))
    assert data.images.flags.c_contiguous
    assert data.labels is not None
    assert data.labels.tolist() == labels
    assert data.labels.dtype == np.int64
    assert data.class_names == ("cat", "dog", "owl")
    assert data.ids.tolist() == [content_id(image) for image in images]
    assert data.notes == ()


def test_folder_of_parquet_files_holds_splits(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(12)
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", images[:4], [0] * 4)
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", images[4:8], [1] * 4)
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", images[8:10], [2] * 2)
    config = DataConfig(source=str(tmp_path))
    assert [content_id(image) for image in images[:8]] == whole(config).ids.tolist()
    assert load_split(config, "test").ids.tolist() == [content_id(image) for image in images[8:10]]
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", images[10:], [2] * 2)
    assert load_split(config, "test").ids.tolist() == [content_id(image) for image in images[10:]]
    assert len(whole(config)) == 8


def test_split_folders_of_parquet_files(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> None:
    images = encoded(6)
    write_parquet(tmp_path / "train/0.parquet", images[:4], [0] * 4)
    write_parquet(tmp_path / "test/0.parquet", images[4:], [0] * 2)
    config = DataConfig(source=str(tmp_path))
    assert len(whole(config)) == 4
    assert len(load_split(config, "test")) == 2


def test_names_as_labels_keep_their_numbers_across_splits(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    images = encoded(7)
    write_parquet(tmp_path / "train.parquet", images[:4], ["dog", "cat", "owl", "dog"])
    write_parquet(tmp_path / "test.parquet", images[4:], ["owl", "ant", "dog"])
    config = DataConfig(source=str(tmp_path))
    train, test = whole(config), load_split(config, "test")
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels.tolist() == [1, 0, 2, 1]
    assert train.class_names == ("cat", "dog", "owl")
    assert test.labels.tolist() == [2, 3, 1]
    assert test.class_names == ("cat", "dog", "owl", "ant")


@pytest.mark.parametrize("labels", [None, [None] * 6, [-1] * 6])
def test_labels_are_optional(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, labels: Any
) -> None:
    import pyarrow as pa

    column = None if labels is None else pa.array(labels, pa.int64())
    path = write_parquet(tmp_path / "set.parquet", encoded(6), column)
    train, selection = load_training(DataConfig(source=str(path), selection=SelectionConfig(fraction=0.3)))
    assert train.labels is None
    assert selection.labels is None
    assert len(train.notes) == 1
    assert "eval/knn_top1" in train.notes[0]


def test_labels_can_be_turned_off(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(6), [0] * 6)
    assert whole(DataConfig(source=str(path), label_column=None)).labels is None


@pytest.mark.parametrize("labels", [[0, 1, None], [0, -1, 1], [0.5, 1.0, 2.0], [0, 1, 3]])
def test_labels_that_cannot_be_used_are_refused(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, labels: list[Any]
) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(3), labels, names=["a", "b", "c"])
    with pytest.raises(InputError, match="'label'"):
        load_training(DataConfig(source=str(path)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image_column": "img"}, r"no column 'img'.*did you mean 'image'\?"),
        ({"label_column": "fine_lable"}, r"no column 'fine_lable'.*did you mean 'fine_label'\?"),
        ({"image_column": "fine_label"}, "expected encoded images"),
    ],
)
def test_wrong_columns_are_named(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, fields: dict[str, str], told: str
) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(3), [0, 1, 2], label="fine_label")
    with pytest.raises(InputError, match=told) as raised:
        load_training(DataConfig.model_validate({"source": str(path), **fields}))
    assert "\n" not in str(raised.value)


# Parquet files that do not fit together


def test_damaged_pages_are_named(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(12), [0] * 12)
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.parquet is not a readable Parquet file") as raised:
        load_training(DataConfig(source=str(path)))
    assert "\n" not in str(raised.value)


def test_label_types_of_several_files(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> None:
    import pyarrow as pa

    images = encoded(6)
    write_parquet(tmp_path / "a.parquet", images[:2], pa.array([0, 1], pa.int32()))
    write_parquet(tmp_path / "b.parquet", images[2:4], pa.array([2, 0], pa.int64()))
    config = DataConfig(source=str(tmp_path))
    labels = whole(config).labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 0]
    write_parquet(tmp_path / "c.parquet", images[4:], ["cat", "dog"])
    with pytest.raises(InputError, match=r"'label' is int64 in .*a\.parquet and .*string in .*c\.parquet"):
        load_training(config)


# Folders of images


def test_class_folders(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    images = encoded(5)
    names = ["train/owl/1.png", "train/owl/2.PNG", "train/ant/deep/3.png", "val/owl/4.png", "val/ant/5.png"]
    write_folder(tmp_path, dict(zip(names, images, strict=True)))
    (tmp_path / "train/owl/.hidden.png").write_bytes(b"")
    (tmp_path / "train/owl/notes.txt").write_text("not an image")
    config = DataConfig(source=str(tmp_path))
    train, test = whole(config), load_split(config, "test")
    assert train.ids.tolist() == [content_id(images[n]) for n in (2, 0, 1)]
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 1]
    assert train.class_names == ("ant", "owl")
    assert test.labels is not None
    assert test.labels.tolist() == [0, 1]


def test_flat_folder_has_no_labels(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    write_folder(tmp_path, {f"{n}.png": image for n, image in enumerate(encoded(4))})
    data = whole(DataConfig(source=str(tmp_path)))
    assert data.labels is None
    assert "no class folders" in data.notes[0]
    with pytest.raises(InputError, match=r"no test split.*data\.test"):
        load_split(DataConfig(source=str(tmp_path)), "test")


def test_mixed_folder_is_refused(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    write_folder(tmp_path, dict(zip(["a.png", "cat/b.png"], encoded(2), strict=True)))
    with pytest.raises(InputError, match="beside folders"):
        load_training(DataConfig(source=str(tmp_path)))


def test_explicit_test_path(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    images = encoded(4)
    write_folder(tmp_path, {"a/cat/1.png": images[0], "a/cat/2.png": images[1], "b/cat/1.png": images[2]})
    config = DataConfig(source=str(tmp_path / "a"), test=str(tmp_path / "b"))
    assert load_split(config, "test").ids.tolist() == [content_id(images[2])]


# Pixels


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "CMYK"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1")]
)
def test_every_mode_becomes_rgb_or_grey(kind: str, mode: str) -> None:
    encoded = encode(pictures(1)[0], kind, mode)
    rgb, resized = decode_image(encoded, 3, None)
    assert rgb.shape == (3, 12, 12)
    assert not resized
    assert np.array_equal(rgb, pixels_of(encoded))
    assert decode_image(encoded, 1, None)[0].shape == (1, 12, 12)


def test_of_sixteen_bits_the_upper_eight_are_kept() -> None:
    for kind in ("PNG", "TIFF", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(buffer, kind)
        pixels, _ = decode_image(buffer.getvalue(), 3, None)
        assert pixels.shape == (3, 8, 8)
        assert (pixels == 4000 >> 8).all()


def test_floating_point_is_refused(tmp_path: Path, write_folder: WriteFolder) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(buffer, "TIFF")
    write_folder(tmp_path, {"a.tiff": buffer.getvalue()})
    with pytest.raises(InputError, match=r"a\.tiff.*floating-point"):
        load_training(DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(orientation: int) -> None:
    image = Image.fromarray(pictures(1, (8, 13))[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    pixels, _ = decode_image(buffer.getvalue(), 3, None)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(upright))
    assert pixels.shape[1:] == ((8, 13) if orientation <= 4 else (13, 8))


def test_broken_exif_does_not_matter() -> None:
    buffer = io.BytesIO()
    Image.fromarray(pictures(1)[0]).save(buffer, "JPEG", exif=b"Exif\0\0MM no such thing")
    assert decode_image(buffer.getvalue(), 3, None)[0].shape == (3, 12, 12)


def test_images_of_other_sizes_are_resized_and_cut(tmp_path: Path, write_folder: WriteFolder) -> None:
    same, wide, tall = (pictures(1, size)[0] for size in ((10, 10), (20, 41), (13, 10)))
    encoded = [encode(image) for image in (same, wide, tall)]
    write_folder(tmp_path, {f"{n}.png": image for n, image in enumerate(encoded)})
    with pytest.raises(InputError, match=r"1\.png is 41x20.*10x10.*data\.image_size"):
        load_training(DataConfig(source=str(tmp_path)))
    data = whole(DataConfig(source=str(tmp_path), image_size=10))
    assert np.array_equal(data.images[0], same.transpose(2, 0, 1))
    resized = Image.fromarray(wide).resize((20, 10), Image.Resampling.BICUBIC).crop((5, 0, 15, 10))
    assert np.array_equal(data.images[1], np.asarray(resized).transpose(2, 0, 1))
    assert np.array_equal(data.images[2], tall[2:12].transpose(2, 0, 1))
    assert any("2 of 3 images" in note and "10 pixels" in note for note in data.notes)


# Bad input


def test_missing_and_empty_sources_are_refused(tmp_path: Path, write_parquet: WriteParquet) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    write_parquet(tmp_path / "rows.parquet", [], [])
    for name, told in [
        ("nowhere", "does not exist"),
        ("empty", "no Parquet files and no images"),
        ("text.txt", "not a Parquet file"),
        ("broken.parquet", "not a readable Parquet file"),
        ("rows.parquet", "no rows"),
    ]:
        with pytest.raises(InputError, match=told) as raised:
            load_training(DataConfig(source=str(tmp_path / name)))
        assert "\n" not in str(raised.value)
        assert name in str(raised.value)


@pytest.mark.parametrize("broken", [b"", b"not an image", "truncated"])
def test_unreadable_image_is_named(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet, broken: bytes | str
) -> None:
    images = encoded(12)
    images[9] = broken if isinstance(broken, bytes) else images[9][:60]
    path = write_parquet(tmp_path / "set.parquet", images, [0] * 12)
    with pytest.raises(InputError, match=r"1 of 12 images cannot be read.*set\.parquet row 9 \(.*repair"):
        load_training(DataConfig(source=str(path)))


def test_images_that_do_not_fit_in_memory_are_refused(
    tmp_path: Path, encoded: Encode, write_parquet: WriteParquet
) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(12), [0] * 12)
    with pytest.raises(InputError, match=r"12 images of 12x12.*data\.image_size"):
        load_training(DataConfig(source=str(path), memory_limit=1e-6))
