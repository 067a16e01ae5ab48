"""`raysl data show` draws each image beside its views, whatever their sizes and channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysl.data.config import DataConfig
from raysl.data.sample import sample_encoded, sample_pictures
from tests.cli.conftest import Commands
from tests.data.made import encode, pictures

MULTICROP = "views={jitter: null, count: 3, size: [48, 48, 32], order: [crop], crop: {scale: [0.5, 1.0]}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of images that all differ in size; one is grey."""
    root = tmp_path / "images"
    root.mkdir()
    for number in range(6):
        (pixels,) = pictures(1, (60 + number, 90 - number), seed=number)
        (root / f"{number}.png").write_bytes(encode(pixels, mode="L" if number == 0 else None))
    return root


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_digits_are_enlarged_until_their_pixels_show(raysl: Commands) -> None:
    ended = raysl("data", "show", "digits", "--recipe", "digits/w_mse", "-o", "d.png", "--images", "2")
    assert ended.code == 0, ended.err
    assert ended.out == "d.png: 2 images, 2 views each, 292x208 pixels\n"
    drawn = read(raysl.folder / "d.png")
    assert drawn.shape == (14 + 96 + 2 + 96, 3 * 96 + 2 * 2, 3)
    tile = drawn[14 : 14 + 96, :96]
    assert (tile.reshape(8, 12, 8, 12, 3) == tile[::12, ::12].reshape(8, 1, 8, 1, 3)).all()
    assert (tile[..., 0] == tile[..., 1]).all()


def test_the_same_seed_draws_the_same_picture(raysl: Commands) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ("digits", "--recipe", "digits/w_mse", "-o", f"{name}.png", "--images", "2", "--seed", seed)
        assert raysl("data", "show", *words).code == 0
    first, again, other = (read(raysl.folder / f"{name}.png") for name in "abc")
    assert (first == again).all()
    assert (first != other).any()


def test_images_and_views_of_many_sizes(raysl: Commands, folder: Path) -> None:
    words = (str(folder), MULTICROP, "--recipe", "digits/w_mse", "-o", "m.png", "--images", "6", "--json")
    ended = raysl("data", "show", *words)
    assert ended.code == 0, ended.err
    assert ended.json["views"] == 3
    drawn = read(raysl.folder / "m.png")
    assert drawn.shape[:2] == (ended.json["height"], ended.json["width"])
    cell = 2 * 48 + 2
    assert drawn.shape[0] == 14 + 6 * cell - 2
    first = drawn[14 : 14 + 96]
    assert (first[64:, -64:] == 255).all()  # below the smallest view
    assert (first[:64, -64:] != 255).any()


def test_an_un_augmented_view_is_drawn_where_the_method_asks_for_one(raysl: Commands) -> None:
    words = ("digits", "--recipe", "digits/mv_mr_distill", "-o", "p.png", "--images", "1")
    ended = raysl("data", "show", *words, "views.count=1")
    assert ended.code == 0, ended.err
    drawn = read(raysl.folder / "p.png")[14:]
    assert drawn.shape[1] == 3 * 96 + 2 * 2
    assert (drawn[:, :96] == drawn[:, 98:194]).all()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("digits", "other"), "takes one source of images, not 2"),
        (("digits", "--images", "0"), "--images 0: choose 1 to 64"),
        (("nowhere",), "data.source: nowhere does not exist"),
        (("digits", "-o", "no/such/folder.png"), "name a .png or .jpg in a folder that is there"),
        (("digits", "-o", "views.what"), "name a .png or .jpg in a folder that is there"),
    ],
)
def test_mistakes_are_told_in_one_line(raysl: Commands, words: tuple[str, ...], told: str) -> None:
    ended = raysl("data", "show", *words, "--recipe", "digits/w_mse")
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1


def test_a_sample_is_spread_over_the_source_and_says_where_each_image_was(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = [encode(pixels) for pixels in pictures(200, (4, 4))]
    pq.write_table(
        pa.table({"image": pa.array(made, pa.binary())}), tmp_path / "a.parquet", row_group_size=10
    )
    config = DataConfig(source=str(tmp_path / "a.parquet"))
    drawn = sample_encoded(config, 8)
    rows = [int(where.split()[-1]) for _, where in drawn]
    assert len({row // 10 for row in rows}) == 8
    assert [made[row] for row in rows] == [encoded for encoded, _ in drawn]
    assert sample_encoded(config, 8, seed=1) != drawn
    assert len(sample_encoded(config, 1000)) == 200
    assert len({picture.id for picture in sample_pictures(config, 50)}) == 50
