"""Small made-up images, on disk in each layout that raysl reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysl.data.config import DataConfig
from raysl.data.decoded import Decoded

from .made import Encode, MakeDecoded, WriteFolder, WriteParquet, encode, pictures


@pytest.fixture(scope="session")
def encoded() -> Encode:
    """Return a function that makes that many different encoded images."""

    def make(
        count: int, size: tuple[int, int] = (12, 12), kind: str = "PNG", mode: str | None = None
    ) -> list[bytes]:
        return [encode(pixels, kind, mode) for pixels in pictures(count, size)]

    return make


@pytest.fixture(scope="session")
def write_parquet() -> WriteParquet:
    def write(
        path: Path,
        encoded: Sequence[bytes],
        labels: Any = None,
        *,
        image: str = "image",
        label: str = "label",
        plain: bool = False,
        names: Sequence[str] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        values = pa.array(encoded, pa.binary()) if plain else pa.array([{"bytes": e} for e in encoded], kind)
        columns = {image: values} | ({} if labels is None else {label: pa.array(labels)})
        table = pa.table(columns)
        if names is not None:
            features = {label: {"names": list(names), "_type": "ClassLabel"}}
            table = table.replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": features}})}
            )
        pq.write_table(table, path, row_group_size=7)
        return path

    return write


@pytest.fixture(scope="session")
def write_folder() -> WriteFolder:
    def write(root: Path, images: dict[str, bytes]) -> Path:
        for name, encoded in images.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded)
        return root

    return write


@pytest.fixture(scope="session")
def make_decoded() -> MakeDecoded:
    def make(
        count: int, size: tuple[int, int] = (12, 12), channels: int = 3, labelled: bool = True
    ) -> Decoded:
        images = np.stack([p.transpose(2, 0, 1) for p in pictures(count, size, channels=channels)])
        images = np.ascontiguousarray(images)
        images.flags.writeable = False  # as an array that lies in Ray's object store
        labels = np.arange(count, dtype=np.int64) % 5 if labelled else None
        return Decoded(images, labels, np.arange(count, dtype=np.uint64) * np.uint64(7919))

    return make


@pytest.fixture
def source(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> DataConfig:
    """90 images in three files of several row groups, some equal to others."""
    images = [*encoded(84), *encoded(6)]
    for number in range(3):
        part = slice(30 * number, 30 * number + 30)
        write_parquet(tmp_path / f"train-{number}.parquet", images[part], [i % 5 for i in range(90)][part])
    return DataConfig(source=str(tmp_path))
