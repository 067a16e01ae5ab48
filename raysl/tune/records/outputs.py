"""What a sweep leaves behind for people: the winner's config, and TensorBoard's table of hyperparameters."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from raysl import __version__
from raysl.config import yaml
from raysl.train.atomic import write_atomically
from raysl.train.method_copy import keep_method
from raysl.tune.choice import Choice
from raysl.tune.records.entry import Entry
from raysl.tune.spaces.resolve import Space

_SUFFIX = ".hparams"


def write_best(directory: Path, space: Space, choice: Choice, trials: Sequence[Entry]) -> Path:
    """Write the winner's whole config, for `raysl pretrain`, with where it comes from as a comment."""
    config, chosen = space.config, choice.chosen
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(chosen.ended))
    seeds = len(choice.seeds)
    noise = "not measured" if choice.deviation is None else f"{choice.deviation:.4g} between seeds of trial 0"
    lines = [
        f"Chosen of {len(trials)} trials of sweep {directory.name}; raysl {__version__}",
        f"trial: {chosen.number} (trials/{chosen.number}), ended {when}",
        f"objective: {config.target.metric} = {choice.mean:.6g}, mean of {seeds} seed{'s' * (seeds > 1)} "
        f"({config.target.direction}) at epoch {chosen.epoch}, on the selection split",
        f"standard deviation: {noise}; as good: trials {', '.join(map(str, choice.equivalent))}; "
        f"highest single value {choice.best.value:.6g} (trial {choice.best.number})",
        *(f"{key} = {value!r}" for key, value in chosen.params.items()),
        f"recipe: {', '.join(config.base)}; sampler: {config.sampler.name}, seed {config.sampler.seed}; "
        f"stopping: {config.stopping.rule}",
    ]
    path = directory / "best.yaml"
    # The whole trial, even where only proxies of it have run.
    winner = space.run_config(chosen.params)
    keep_method(directory, winner)
    write_atomically(path, "".join(f"# {line}\n" for line in lines) + yaml.dump(winner.to_dict()))
    return path


def write_trials(directory: Path, trials: Sequence[Entry], choice: Choice | None = None) -> None:
    """Write the summary of the ledger that `raysl show` reads: `trials.json`, one object for each trial.

    Args:
        directory: the sweep's directory.
        trials: the record.
        choice: what it recommends; the chosen trial has the values of all its seeds as `chosen`.
    """
    chosen = {} if choice is None else {choice.chosen.number: list(choice.seeds)}
    rows = [
        {
            "number": entry.number,
            "role": asdict(entry.role),
            "state": entry.state,
            "audited": entry.audited,
            "cause": entry.cause,
            "reason": "" if entry.state == "complete" else entry.reason,
            "params": entry.params,
            "value": entry.value,
            "values": entry.values,
            "epoch": entry.epoch,
            "chosen": chosen.get(entry.number),
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
