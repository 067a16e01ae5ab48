"""Some images have no label (-1): they are trained on, and do not judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raysl.data.decoded import Decoded
from raysl.errors import InputError
from raysl.evaluation.images import load_images
from raysl.train.diagnostics import Diagnostics, wants_knn
from raysl.train.session import Session, TrainData
from tests.data.made import encode, pictures

from .made import config, digits


def half_labelled(data: Decoded) -> Decoded:
    assert data.labels is not None
    labels = np.where(np.arange(len(data)) % 2 == 0, data.labels, -1)
    return replace(data, labels=labels)


def decoded(images: int, held_out: int) -> tuple[Decoded, Decoded]:
    whole: Any = digits(images, held_out)
    return half_labelled(whole.train), half_labelled(whole.selection)


def test_online_knn_is_among_labelled_images() -> None:
    train, selection = decoded(140, 40)
    data, run = TrainData(train, selection), config()
    diagnostics = Diagnostics(run, data, Session(run, data, torch.device("cpu")))
    assert diagnostics.bank is not None
    assert len(diagnostics.bank) == 70
    assert len(diagnostics.query) == 20
    for part in (diagnostics.bank, diagnostics.query):
        assert part.labels is not None
        assert part.labels.min() >= 0
    with pytest.raises(InputError, match=r"knn_k = 71: more than the 70 images that vote"):
        wants_knn(config("diagnostics.knn_k=71"), data)
    assert selection.labels is not None
    nobody = replace(selection, labels=np.full_like(selection.labels, -1))
    assert not wants_knn(run, TrainData(train, nobody))


def test_probes_learn_from_labelled_images(tmp_path: Path) -> None:
    images = [encode(picture) for picture in pictures(60)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parts = {"train": (0, 20), "unlabeled": (20, 50), "test": (50, 60)}
    for split, (first, last) in parts.items():
        rows = pa.array([{"bytes": image} for image in images[first:last]], kind)
        labels = pa.array([-1 if split == "unlabeled" else n % 2 for n in range(first, last)])
        pq.write_table(pa.table({"image": rows, "label": labels}), tmp_path / f"{split}.parquet")
    run = config(f"data.source={tmp_path}", "data.train_split=train+unlabeled", views={"preset": "none"})
    found = load_images(run, "test")
    assert len(found.train_y) == 20
    assert sum(len(part) for part in found.train.values()) == 20
    assert (found.classes, len(found.test)) == (2, 10)
