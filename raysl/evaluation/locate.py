"""Which checkpoint of which run is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.config import nearest
from raysl.errors import InputError
from raysl.train import checkpoint as checkpoints
from raysl.train.config import RunConfig
from raysl.train.rundir import RunDirectory

_BEST_BY_DEFAULT = "eval/knn_top1"


@dataclass(frozen=True)
class Located:
    """A whole checkpoint and the run it belongs to.

    Args:
        run: the run's directory.
        config: the run's config.
        checkpoint: the checkpoint's folder, every file of which agrees with its manifest.
        epoch: completed epochs.
        step: steps taken in the epoch after them.
        sha256: of `model.safetensors`.
    """

    run: RunDirectory
    config: RunConfig
    checkpoint: Path
    epoch: int
    step: int
    sha256: str

    @property
    def weights(self) -> Path:
        """File of the method's parameters and buffers."""
        return self.checkpoint / "model.safetensors"


def locate(run: str | Path, checkpoint: str | Path = "last") -> Located:
    """Find a checkpoint.

    Args:
        run: a run directory, or a checkpoint directory within one.
        checkpoint: `last` (the latest whole one), `best` (by the run's `checkpoint.best`), a name or a path.

    Raises:
        InputError: no such run or checkpoint, or it is damaged.
    """
    path = Path(run)
    if (path / "manifest.json").is_file() and path.resolve().parent.name == "checkpoints":
        if str(checkpoint) != "last":
            raise InputError(f"{run} is a checkpoint already; leave the other out, or give the run directory")
        path = path if len(path.parts) > 2 else path.absolute()
        path, checkpoint = path.parent.parent, path.name
    directory = RunDirectory.open(path)
    config = directory.config()
    chosen = _choose(directory, config, checkpoint)
    facts = checkpoints.verify(chosen)
    manifest: dict[str, str] = json.loads((chosen / "manifest.json").read_text(encoding="utf-8"))
    position: dict[str, Any] = facts["position"]
    return Located(
        directory, config, chosen, position["epoch"], position["step"], manifest["model.safetensors"]
    )


def _choose(run: RunDirectory, config: RunConfig, wanted: str | Path) -> Path:
    folder = run.checkpoints
    if str(wanted) == "last":
        found = checkpoints.latest(folder)
        if found is None:
            raise InputError(f"{run.path}: has no whole checkpoint yet; raysl pretrain continues the run")
        return found
    names = [entry.name for entry in checkpoints.list_checkpoints(folder)]
    if str(wanted) == "best":
        metric = config.checkpoint.best or _BEST_BY_DEFAULT
        found = checkpoints.best_checkpoint(folder, metric)
        if found is None:
            raise InputError(f"{run.path}: no checkpoint has {metric}; use last or one of {', '.join(names)}")
        return found
    name = Path(wanted).name
    if Path(wanted).name != str(wanted) and Path(wanted).resolve().parent != folder.resolve():
        raise InputError(f"{wanted}: not a checkpoint of {run.path}; use last, best or a name in {folder}")
    if name not in names:
        raise InputError(f"{run.path}: no checkpoint {name!r}; {nearest(name, ['last', 'best', *names])}")
    return folder / name
