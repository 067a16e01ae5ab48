"""Unreadable images in a run: counted, listed in its directory, shown, and noticed when they change."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysl.config import build, merge
from raysl.errors import InputError
from raysl.evaluation.evaluate import evaluate
from raysl.report.runs import show_run
from raysl.train.config import RunConfig
from raysl.train.pretrain import prepare, pretrain


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(file: Path, count: int, broken: dict[int, bytes], seed: int = 0) -> None:
    images = [broken.get(n, png(n + seed)) for n in range(count)]
    pq.write_table(pa.table({"image": images, "label": [n % 3 for n in range(count)]}), file)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / "train.parquet", 60, {7: b"", 31: png(31)[:70]})
    write(folder / "test.parquet", 20, {19: b"no image"}, seed=100)
    return folder


def config(source: Path, feed: str, *overrides: str) -> RunConfig:
    values: dict[str, Any] = {
        "data": {"source": str(source), "feed": feed, "max_bad": 0.05},
        "views": {"preset": "none", "flip": {"p": 0.5}},
        "backbone": {"name": "small_cnn", "width": 4},
        "method": {"name": "simclr", "projector": {"layers": 2, "width": 16, "out": 8, "last_bn": "affine"}},
        "train": {"epochs": 1, "batch_size": 16, "device": "cpu"},
        "diagnostics": {"images": False},
    }
    return build(RunConfig, *merge([values], overrides))


@pytest.mark.parametrize("feed", ["memory", "ray"])
def test_a_run_counts_lists_and_shows_them(source: Path, tmp_path: Path, feed: str) -> None:
    prepared, said = prepare(config(source, feed)), list[str]()
    assert prepared.facts()["data"]["unreadable_images"] == 2
    run = pretrain(prepared, tmp_path / "run", threads=1, say=said.append).run
    file = f"{source}/train.parquet"
    assert sum("2 of 60 images cannot be read and are left out: " + file in line for line in said) == 1
    listed = [json.loads(line) for line in (run / "rejected.jsonl").read_text().splitlines()]
    assert [one["where"] for one in listed] == [f"{file} row 7", f"{file} row 31"]
    assert listed[0]["reason"] == "the file is empty"
    assert "truncated" in listed[1]["reason"]
    shown = show_run(run)
    assert shown.to_dict()["unreadable_images"] == 2
    assert "cannot be read and are left out: 2 (rejected.jsonl lists them)" in shown.to_text()


def test_an_evaluation_says_what_it_left_out(source: Path, tmp_path: Path) -> None:
    run = pretrain(prepare(config(source, "memory")), tmp_path / "run", threads=1, say=lambda _: None).run
    result = evaluate(run, overrides=["k=1"])
    assert result.data["test_images"] == 19
    assert [note.partition(" cannot")[0] for note in result.notes] == [
        "training images: 2 of 60 images",
        "test images: 1 of 20 images",
    ]
    with pytest.raises(InputError, match=r"2 of 60 images cannot be read, and data.max_bad = 0 allows 0"):
        evaluate(run, overrides=["data.max_bad=0"])


def test_a_run_goes_on_only_with_the_images_it_began_with(source: Path, tmp_path: Path) -> None:
    def go(epochs: int, *overrides: str) -> None:
        given = ("schedule.horizon=3", f"train.epochs={epochs}", *overrides)
        pretrain(prepare(config(source, "memory", *given)), tmp_path / "run", threads=1, say=lambda _: None)

    go(1)
    write(source / "train.parquet", 60, {7: b"another way to be broken", 31: b""})
    go(2, "data.max_bad=0.1")
    write(source / "train.parquet", 60, {7: b""})
    with pytest.raises(
        InputError, match=r"images have changed since this run began \(58 -> 59, unreadable 2 -> 1\)"
    ):
        go(3)
    write(source / "train.parquet", 60, {7: b"", 8: b""})
    with pytest.raises(InputError, match=r"images have changed since this run began \(58 -> 58\)"):
        go(3)


def test_a_run_without_any_lists_and_says_nothing(source: Path, tmp_path: Path) -> None:
    write(source / "train.parquet", 60, {})
    run = pretrain(prepare(config(source, "memory")), tmp_path / "run", threads=1, say=lambda _: None).run
    assert not (run / "rejected.jsonl").exists()
    assert "cannot be read" not in show_run(run).to_text()
