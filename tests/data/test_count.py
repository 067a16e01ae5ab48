"""Images are counted without being decoded, as many as are then trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysl.data.config import DataConfig, SelectionConfig
from raysl.data.sources import count_training, load_training
from raysl.errors import InputError

from .made import Encode, WriteParquet


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3])
def test_digits(fraction: float) -> None:
    config = DataConfig(selection=SelectionConfig(fraction=fraction))
    assert count_training(config) == len(load_training(config)[0])


def test_parquet(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> None:
    path = write_parquet(tmp_path / "set.parquet", encoded(20), [0] * 20)
    config = DataConfig(source=str(path), selection=SelectionConfig(maximum=1))
    assert count_training(config) == len(load_training(config)[0]) == 19


def test_a_folder_of_files_that_are_no_images(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    assert count_training(DataConfig(source=str(tmp_path))) == 27


def test_what_is_not_there_cannot_be_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        count_training(DataConfig(source=str(tmp_path / "nowhere")))
