"""What a sweep leaves behind for people: the winner's config, and TensorBoard's table of hyperparameters."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from raysl import __version__
from raysl.config import yaml
from raysl.train.atomic import write_atomically
from raysl.train.method_copy import keep_method
from raysl.tune.entry import Entry
from raysl.tune.resolve import Space

_SUFFIX = ".hparams"


def write_best(directory: Path, space: Space, best: Entry, trials: Sequence[Entry]) -> Path:
    """Write the winner's whole config, for `raysl pretrain`, with where it comes from as a comment."""
    config = space.config
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(best.ended))
    lines = [
        f"The best of {len(trials)} trials of sweep {directory.name}; raysl {__version__}",
        f"trial: {best.number} (trials/{best.number}), ended {when}",
        f"objective: {config.objective.metric} = {best.value:.6g} ({config.objective.direction}) "
        f"at epoch {best.epoch}, on the selection split",
        *(f"{key} = {value!r}" for key, value in best.params.items()),
        f"recipe: {', '.join(config.base)}; sampler: {config.sampler.name}, seed {config.sampler.seed}; "
        f"stopping: {config.stopping.rule}",
    ]
    path = directory / "best.yaml"
    winner = space.run_config(best.params)
    keep_method(directory, winner)
    write_atomically(path, "".join(f"# {line}\n" for line in lines) + yaml.dump(winner.to_dict()))
    return path


def write_trials(directory: Path, trials: Sequence[Entry]) -> None:
    """Write the summary of the ledger that `raysl show` reads: `trials.json`, one object for each trial."""
    rows = [
        {
            "number": entry.number,
            "state": entry.state,
            "cause": entry.cause,
            "reason": "" if entry.state == "complete" else entry.reason,
            "params": entry.params,
            "value": entry.value,
            "epoch": entry.epoch,
        }
        for entry in trials
    ]
    write_atomically(directory / "trials.json", json.dumps(rows, indent=1))


def write_hparams(directory: Path, trials: Sequence[Entry]) -> None:
    """Give each ended trial's TensorBoard folder its hyperparameters and final metrics, once.

    They go into the same folder as the trial's scalars, so that the HParams tab shows one row for each trial.
    """
    # TensorBoard takes the columns of its table from whichever trial it reads first, so all of them name all.
    tags = {tag for entry in trials for report in entry.reports for tag in report.metrics}
    shown = sorted(tag for tag in tags if not tag.startswith(("time/", "perf/")))
    for entry in trials:
        folder = directory / "trials" / str(entry.number) / "tensorboard"
        if entry.state != "running" and folder.is_dir() and not any(folder.glob(f"*{_SUFFIX}")):
            _write_hparams(folder, entry, shown)


def _write_hparams(folder: Path, entry: Entry, tags: Sequence[str]) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    params = {
        key: value if isinstance(value, bool | int | float) else str(value)
        for key, value in entry.params.items()
    }
    # The values are the run's own scalars of these tags; here the tab only learns which tags to show.
    with SummaryWriter(str(folder), filename_suffix=_SUFFIX) as writer:
        for part in hparams(params | {"state": entry.cause}, dict.fromkeys(tags, 0.0)):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(part)
