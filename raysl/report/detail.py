"""`raysl show`: one run or sweep in detail, and what to do next with it."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from raysl.config import leaves
from raysl.errors import InputError
from raysl.report.records import KNN, RunRecord, has_best, is_run, is_sweep, read_run
from raysl.report.sweeps import SweepRecord, TrialRecord, read_sweep
from raysl.report.text import metric_text, paragraph, render, size, table, value_text

_SUMMARY = ("data", "backbone", "method", "optimizer", "schedule", "train")
_TRIALS_SHOWN = 20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Args:
        name: its folder.
        size: in bytes.
        metrics: those of its epoch.
    """

    name: str
    size: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunDetail:
    """A run in detail.

    Args:
        run: its record.
        checkpoints: earliest first.
        size: of the whole directory, in bytes.
        commands: what to do next.
        unreadable: images that were left out because they cannot be decoded.
    """

    run: RunRecord
    checkpoints: list[Checkpoint]
    size: int
    commands: list[str]
    unreadable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        run = self.run
        return {
            "kind": "run",
            "name": run.name,
            "path": str(run.path),
            "method": run.method,
            "status": run.status,
            "epochs": run.epochs,
            "epochs_wanted": run.epochs_wanted,
            "unreadable_images": self.unreadable,
            "metrics": {
                tag: {"last": run.last(tag), "best": asdict(best)}
                for tag in run.curves
                if (best := run.best(tag))
            },
            "evaluations": run.evaluations,
            "checkpoints": [asdict(checkpoint) for checkpoint in self.checkpoints],
            "size": self.size,
            "commands": self.commands,
            "config": run.config,
        }

    def to_text(self) -> str:
        """Return what a person wants to know, in sections."""
        run = self.run
        why = str(run.status.get("detail", ""))
        parts = [
            f"{run.path}: {run.state}, {run.epochs} of {run.epochs_wanted} epochs"
            + (f" ({why})" if why else ""),
            "\n".join(paragraph(room, _summary(run.config.get(room))) for room in _SUMMARY),
            self._unreadable(),
            self._metrics(),
            self._evaluations(),
            self._checkpoints(),
            "next: " + "\n      ".join(self.commands),
        ]
        return "\n\n".join(part for part in parts if part)

    def _unreadable(self) -> str:
        if not self.unreadable:
            return ""
        return f"images that cannot be read and are left out: {self.unreadable:,} (rejected.jsonl lists them)"

    def _metrics(self) -> str:
        made = table("metric", "last", "best", "at epoch")
        for tag in sorted(self.run.curves):
            best = self.run.best(tag)
            shown = (metric_text(best.value, tag), str(best.epoch)) if best and has_best(tag) else ("", "")
            made.add_row(tag, metric_text(self.run.last(tag), tag), *shown)
        return render(made) if self.run.curves else ""

    def _evaluations(self) -> str:
        made = table("evaluation", "split", "checkpoint", "encoder", "scores", numbers=False)
        for result in self.run.evaluations:
            for encoder, scores in {"trained": result["metrics"], **result["baselines"]}.items():
                made.add_row(
                    result["label"],
                    result["split"],
                    result["checkpoint"]["name"],
                    encoder,
                    ", ".join(f"{name} {value:.2f}" for name, value in scores.items()),
                )
        return render(made) if self.run.evaluations else ""

    def _checkpoints(self) -> str:
        shown = [
            f"{c.name} ({size(c.size)}" + (f", k-NN {c.metrics[KNN]:.2f} %)" if KNN in c.metrics else ")")
            for c in self.checkpoints
        ]
        return f"checkpoints: {', '.join(shown) or 'none yet'}\non disk: {size(self.size)}"


@dataclass(frozen=True)
class SweepDetail:
    """A sweep in detail.

    Args:
        sweep: its record.
        size: of the whole directory, in bytes.
        commands: what to do next.
    """

    sweep: SweepRecord
    size: int
    commands: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        sweep = self.sweep
        return {
            "kind": "sweep",
            "name": sweep.path.resolve().name,
            "path": str(sweep.path),
            "method": sweep.method,
            "state": sweep.state,
            "trials": [asdict(trial) for trial in sweep.trials],
            "trials_wanted": sweep.trials_wanted,
            "states": sweep.states,
            "size": self.size,
            "commands": self.commands,
            "space": sweep.space,
        }

    def to_text(self) -> str:
        """Return what a person wants to know, in sections."""
        sweep = self.sweep
        counts = (
            ", ".join(f"{count} {state}" for state, count in sorted(sweep.states.items())) or "none begun"
        )
        searched = "\n".join(f"search {key}: {_summary(how)}" for key, how in sweep.space["search"].items())
        parts = [
            f"{sweep.path}: {sweep.state}, {sweep.ended} of {sweep.trials_wanted} trials ended ({counts})",
            f"{paragraph('method', _summary(sweep.base['method']))}\n{searched}",
            self._chosen(),
            self._best_trials(),
            f"on disk: {size(self.size)}",
            "next: " + "\n      ".join(self.commands),
        ]
        return "\n\n".join(part for part in parts if part)

    def _chosen(self) -> str:
        chosen = self.sweep.chosen
        if chosen is None:
            return ""
        metric, seeds = self.sweep.objective["metric"], chosen.seeds
        told = f"chosen: trial {chosen.number}, {metric} {metric_text(mean(seeds), metric)}"
        if len(seeds) > 1:
            each = ", ".join(metric_text(value, metric) for value in seeds)
            told += f", mean of {len(seeds)} seeds ({each})"
        return told

    def _best_trials(self) -> str:
        objective = self.sweep.objective
        metric, sign = objective["metric"], 1.0 if objective["direction"] == "minimize" else -1.0
        values = {
            trial.number: trial.last.get(metric) if trial.value is None else trial.value
            for trial in self.sweep.trials
        }

        def rank(trial: TrialRecord) -> float:
            value = values[trial.number]
            return math.inf if value is None or math.isnan(value) else sign * value

        trials = sorted(self.sweep.trials, key=rank)
        shown = trials[:_TRIALS_SHOWN]
        made = table("trial", "state", "epochs", metric)
        made.add_column("hyperparameters", overflow="fold")
        for trial in shown:
            made.add_row(
                str(trial.number),
                trial.described,
                str(trial.epochs),
                metric_text(values[trial.number], metric),
                ", ".join(f"{key} {value_text(value)}" for key, value in trial.params.items()),
            )
        lines = [render(made)] if shown else []
        lines += [f"and {len(trials) - len(shown)} more"] if len(trials) > len(shown) else []
        lines += [f"trial {trial.number}, {trial.state}: {trial.reason}" for trial in shown if trial.reason]
        return "\n".join(lines)


def show_run(path: str | Path) -> RunDetail | SweepDetail:
    """Return a run or a sweep in detail.

    Raises:
        InputError: there is neither at that path, or it cannot be read.
    """
    folder = Path(path)
    if is_run(folder):
        return _detail_of_run(folder)
    if is_sweep(folder):
        return _detail_of_sweep(folder)
    raise InputError(f"{path}: neither a run nor a sweep directory; raysl ls shows the ones there are")


def _detail_of_run(path: Path) -> RunDetail:
    run = read_run(path)
    checkpoints = [_checkpoint(file.parent) for file in sorted(path.glob("checkpoints/epoch_*/state.json"))]
    return RunDetail(run, checkpoints, _bytes(path), _commands(run, bool(checkpoints)), _unreadable(path))


def _unreadable(run: Path) -> int:
    """Return how many images a run has left out; 0 where it has not come to them yet."""
    try:
        return int(json.loads((run / "data.json").read_text(encoding="utf-8")).get("unreadable", 0))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{run}/data.json: cannot be read: {type(error).__name__}: {error}") from None


def _detail_of_sweep(path: Path) -> SweepDetail:
    sweep, where = read_sweep(path), shlex.quote(str(path))
    commands = [f"raysl compare {where}", f"tensorboard --logdir {where}"]
    if sweep.state == "completed":
        commands.insert(0, f"raysl pretrain {shlex.quote(str(path / 'best.yaml'))}")
    elif sweep.state == "interrupted":
        commands.insert(0, "the command that began it continues it")
    return SweepDetail(sweep, _bytes(path), commands)


def _commands(run: RunRecord, has_checkpoint: bool) -> list[str]:
    where = shlex.quote(str(run.path))
    commands = [f"raysl evaluate {where}"] if has_checkpoint else []
    if run.state != "running" and run.epochs < run.epochs_wanted:
        folder = run.path.resolve().parent
        home = "" if folder.name == "runs" else f" --runs {shlex.quote(str(run.path.parent))}"
        config = shlex.quote(str(run.path / "config.yaml"))
        commands.insert(0, f"raysl pretrain {config} --name {shlex.quote(run.path.resolve().name)}{home}")
    return [*commands, f"tensorboard --logdir {where}"]


def _checkpoint(folder: Path) -> Checkpoint:
    try:
        metrics = json.loads((folder / "state.json").read_text(encoding="utf-8"))["metrics"]
    except (OSError, ValueError, KeyError):
        metrics = {}  # a damaged one is listed all the same; whoever loads it says what is wrong
    return Checkpoint(folder.name, _bytes(folder), metrics)


def _bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def _summary(values: Any) -> str:
    """Write the first values of a part of the config, without those that are not set."""
    if not isinstance(values, dict):
        return value_text(values)
    head = [str(values["name"])] if "name" in values else []
    set_values = [
        (key, value) for key, value in leaves(values) if key != "name" and value not in (None, [], {})
    ]
    return ", ".join(head + [f"{key} {value_text(value)}" for key, value in set_values])
