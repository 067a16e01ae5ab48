"""Does a run go on with the images it began with? Its `data.json` tells."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from raysl.train.atomic import write_atomically
from raysl.train.rundir import RunDirectory
from raysl.train.session import TrainData

REJECTED = "rejected.jsonl"


def fingerprint(data: TrainData) -> dict[str, Any]:
    """Return what tells these images from others: their number, and a sum over their sorted ids."""
    ids = np.sort(np.concatenate([data.train.ids, data.selection.ids]).astype("<u8"))
    return {"images": len(ids), "ids": hashlib.sha256(ids.tobytes()).hexdigest()}


def _list_unreadable(run: RunDirectory, data: TrainData) -> None:
    """Write where each image is that was left out, and why, a JSON object a line."""
    lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in data.train.unreadable]
    if lines:
        write_atomically(run.path / REJECTED, "".join(lines))


def changed_data(run: RunDirectory, fence: int, data: TrainData) -> str | None:
    """Keep the images' fingerprint and the list of unreadable ones at a run's first start; later, compare.

    Args:
        run: the run.
        fence: the attempt's number.
        data: what it would train on now.

    Returns:
        What has changed since the run began, in a sentence; None when nothing has.

    Raises:
        Fenced: a newer attempt has taken the run over.
    """
    file, now = run.path / "data.json", fingerprint(data)
    unreadable = len(data.train.unreadable)
    with run.writing(fence):
        if not file.exists():
            _list_unreadable(run, data)
            write_atomically(file, json.dumps({**now, "unreadable": unreadable}, indent=1))
            return None
        before = json.loads(file.read_text(encoding="utf-8"))
    if all(before[key] == value for key, value in now.items()):
        return None
    counts = f"{before['images']} -> {now['images']}"
    if unreadable != (unreadable_before := before.get("unreadable", 0)):
        counts += f", unreadable {unreadable_before} -> {unreadable}"
    return (
        f"{run.path}: the training images have changed since this run began ({counts}); choose another --name"
    )
