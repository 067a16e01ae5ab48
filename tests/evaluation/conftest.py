"""Runs of two epochs on digits, trained once for all tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raysl.config import load
from raysl.train.config import RunConfig
from raysl.train.pretrain import prepare, pretrain

torch.set_num_threads(1)

SETTINGS: dict[str, Any] = {
    "data": {"source": "digits"},
    "views": {"preset": "digits"},
    "backbone": {"name": "small_cnn", "width": 8},
    "method": {"name": "simclr", "projector": {"layers": 2, "width": 32, "out": 16, "last_bn": "affine"}},
    "optimizer": {"name": "adam", "lr": 3e-3},
    "train": {"epochs": 2, "batch_size": 256, "seed": 7},
    "diagnostics": {"images": False},
}


def train(path: Path, *changes: dict[str, Any]) -> Path:
    """Train a run of `SETTINGS` with changes."""
    config = load(RunConfig, [SETTINGS, *changes])
    return pretrain(prepare(config), path, say=lambda _: None).run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    return train(tmp_path_factory.mktemp("trained") / "digits-simclr")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(trained, tmp_path / "digits-simclr"))


@pytest.fixture
def damage() -> Callable[[Path, int], None]:
    """Flips a bit of a file, at a place counted from its end."""

    def flip(file: Path, from_end: int = 1) -> None:
        content = bytearray(file.read_bytes())
        content[-from_end] ^= 1
        file.write_bytes(content)

    return flip
