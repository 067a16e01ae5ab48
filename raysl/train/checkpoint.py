"""Checkpoints: tensors in safetensors, the rest in JSON, no pickle, a manifest of sha256 sums.

    checkpoints/epoch_0010/               after ten epochs
    checkpoints/epoch_0010_step_000123/   123 steps into the eleventh
        model.safetensors  optimizer.safetensors  state.json  manifest.json

A checkpoint is written aside and renamed, so one that has its name is complete; its sums tell whether it
still is. The data order, the views and every random number of a step are functions of the seed and the
position, so the position is all that has to be kept of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from raysl.errors import InputError, not_written

log = logging.getLogger("raysl")
_NAME = re.compile(r"^epoch_(\d+)(?:_step_(\d+))?$")
_FORMAT = 1
_PARTS = {"model.safetensors", "optimizer.safetensors", "state.json"}


@dataclass(frozen=True)
class Position:
    """Where training stands.

    Args:
        epoch: completed epochs.
        step: steps taken in the epoch after them.
    """

    epoch: int
    step: int = 0

    @property
    def name(self) -> str:
        """Folder name of a checkpoint at this position."""
        return f"epoch_{self.epoch:04d}" + (f"_step_{self.step:06d}" if self.step else "")


@dataclass(frozen=True)
class TrainingState:
    """All that is needed to go on.

    Args:
        position: where training stands.
        model: the method's parameters and buffers by name.
        optimizer: the optimizer's tensors by `parameter.slot`.
        partial: sums over the steps of an unfinished epoch, for its report.
        metrics: the last report's metrics, by tag.
    """

    position: Position
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    partial: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def save(folder: Path, state: TrainingState) -> Path:
    """Write a checkpoint below `folder` and return its path.

    Raises:
        RayslError: it cannot be written (a full disk, say); nothing half-written is left.
    """
    target = folder / state.position.name
    aside = folder / f".{state.position.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        save_file(_plain(state.model), aside / "model.safetensors")
        save_file(_plain(state.optimizer), aside / "optimizer.safetensors")
        facts = {
            "format": _FORMAT,
            "position": asdict(state.position),
            "partial": dict(state.partial),
            "metrics": dict(state.metrics),
        }
        (aside / "state.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        sums = {file.name: _sha256(file) for file in sorted(aside.iterdir())}
        (aside / "manifest.json").write_text(json.dumps(sums, indent=1), encoding="utf-8")
        for file in (*aside.iterdir(), aside):
            _sync(file)
        aside.rename(target)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise not_written(target, error) from None
    return target


def load(checkpoint: Path) -> TrainingState:
    """Read a checkpoint, checking every file against the manifest.

    Raises:
        InputError: it is not a checkpoint, or it is damaged.
    """
    facts = verify(checkpoint)
    return TrainingState(
        position=Position(**facts["position"]),
        model=load_file(checkpoint / "model.safetensors"),
        optimizer=load_file(checkpoint / "optimizer.safetensors"),
        partial=facts["partial"],
        metrics=facts["metrics"],
    )


def verify(checkpoint: Path) -> dict[str, Any]:
    """Check a checkpoint's files against its manifest and return its `state.json`.

    Raises:
        InputError: a file is missing or differs from what was written.
    """
    try:
        sums = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
        wrong = [name for name in sorted(_PARTS) if _sha256(checkpoint / name) != sums[name]]
        facts: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{checkpoint}: not a whole checkpoint ({error})") from None
    if wrong:
        raise InputError(f"{checkpoint}: damaged: {', '.join(wrong)} differ from the manifest")
    if facts.get("format") != _FORMAT:
        raise InputError(f"{checkpoint}: format {facts.get('format')}; this raysl reads format {_FORMAT}")
    return facts


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, earliest position first; nothing in them is read."""
    found = [(match, entry) for entry in _entries(folder) if (match := _NAME.match(entry.name))]
    return [entry for match, entry in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2] or 0)))]


def latest(folder: Path, warn: Callable[[str], None] = log.warning) -> Path | None:
    """Return the latest whole checkpoint, or None; a damaged one is passed over with a warning."""
    return _latest(folder, lambda checkpoint, error: warn(f"{error}; using the checkpoint before it"))


def recover(folder: Path, warn: Callable[[str], None] = log.warning) -> Path | None:
    """Return the latest whole checkpoint, or None, and set damaged ones after it aside, with a warning.

    Set aside, a damaged one neither counts among those that are kept nor stands where training will write
    again; whoever wants to look finds it as `damaged-epoch_0010`.
    """

    def set_aside(checkpoint: Path, error: InputError) -> None:
        moved = checkpoint.rename(_free_name(folder, f"damaged-{checkpoint.name}"))
        warn(f"{error}; kept as {moved.name}, using the checkpoint before it")

    return _latest(folder, set_aside)


def _latest(folder: Path, on_damage: Callable[[Path, InputError], None]) -> Path | None:
    for checkpoint in reversed(list_checkpoints(folder)):
        try:
            verify(checkpoint)
        except InputError as error:
            on_damage(checkpoint, error)
        else:
            return checkpoint
    return None


def prune(folder: Path, *, keep: int, best: str | None) -> None:
    """Delete all but the last `keep` checkpoints and the one with the highest `best` metric.

    Also deletes what a killed writer left half-written.
    """
    for entry in _entries(folder):
        if entry.name.startswith(".epoch_") and not entry.name.endswith(f".{os.getpid()}"):
            shutil.rmtree(entry, ignore_errors=True)
    checkpoints = list_checkpoints(folder)
    kept = set(checkpoints[-keep:])
    if best is not None and (chosen := best_checkpoint(folder, best)):
        kept.add(chosen)
    for checkpoint in checkpoints:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint)


def best_checkpoint(folder: Path, metric: str) -> Path | None:
    """Return the checkpoint whose report had the highest value of a metric (the later of equals), or None."""
    scored: list[tuple[float, int, Path]] = []
    for order, checkpoint in enumerate(list_checkpoints(folder)):
        try:
            facts = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if facts["position"]["step"] == 0 and metric in facts["metrics"]:
            scored.append((facts["metrics"][metric], order, checkpoint))
    return max(scored)[2] if scored else None


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_name(folder: Path, name: str) -> Path:
    numbered = (folder / (name if n == 0 else f"{name}-{n}") for n in range(10_000))
    return next(path for path in numbered if not path.exists())
