"""`raysl compare`: in what runs differ, and how they ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysl.config import leaves
from raysl.report.records import KNN, LOSS, RANK, Best, RunRecord, has_best, read_runs
from raysl.report.text import ABSENT, NO_KEY, metric_text, percent, render, table, value_text

_ROOMS = ("eval/", "diag/", "train/", "perf/")
_ACCURACY = re.compile(r" top\d( |$)")
_MOST_COLUMNS = 6
"""Runs that stand side by side; more stand one below the other."""
_MOST_KEYS = 8


@dataclass(frozen=True)
class Metric:
    """How one metric of one run ended.

    Args:
        last: the last value.
        best: the best one and its epoch.
    """

    last: float
    best: Best


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. Every list has one element for each run, None where a run has no such value.

    Args:
        runs: their records.
        config: the keys whose values differ; `(absent)` where a run has no such key.
        metrics: how each metric ended.
        evaluations: scores of the latest evaluation of the last evaluated checkpoint, as
            `split/protocol score`, those of baselines with their name behind.
    """

    runs: list[RunRecord]
    config: dict[str, list[Any]]
    metrics: dict[str, list[Metric | None]]
    evaluations: dict[str, list[float | None]]

    @property
    def names(self) -> list[str]:
        """Names of the runs."""
        return [run.name for run in self.runs]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "runs": [
                {
                    "name": run.name,
                    "path": str(run.path),
                    "method": run.method,
                    "state": run.state,
                    "epochs": run.epochs,
                }
                for run in self.runs
            ],
            "config": self.config,
            "metrics": {
                tag: [asdict(metric) if metric else None for metric in row]
                for tag, row in self.metrics.items()
            },
            "evaluations": self.evaluations,
        }

    def to_text(self) -> str:
        """Return one table: runs side by side, or below one another, the best first, when there are many."""
        return self._side_by_side() if len(self.runs) <= _MOST_COLUMNS else self._one_below_another()

    def _side_by_side(self) -> str:
        made = table("", *self.names)
        made.add_row("state", *(run.state for run in self.runs))
        made.add_row("epochs", *(f"{run.epochs}/{run.epochs_wanted}" for run in self.runs))
        made.add_section()
        for key, values in self.config.items():
            made.add_row(key, *map(value_text, values))
        made.add_section()
        for tag, metrics in self.metrics.items():
            made.add_row(tag, *(_metric_text(metric, tag) for metric in metrics))
        made.add_section()
        for label, scores in self.evaluations.items():
            if _ACCURACY.search(label):
                made.add_row(label, *map(percent, scores))
        return f"{render(made)}\nlast value of each metric; in brackets the best"

    def _one_below_another(self) -> str:
        keys = sorted(self.config, key=lambda key: -len(set(map(str, self.config[key]))))[:_MOST_KEYS]
        shown = {LOSS: "loss", KNN: "k-NN %", RANK: "rank"}
        tags = [tag for tag in shown if tag in self.metrics]
        scores = [label for label in self.evaluations if label.endswith(" top1")]
        made = table(
            "run", "state", "epochs", *short_names(keys), *(shown[tag] for tag in tags), "best k-NN", *scores
        )
        for place in self._best_first():
            run, best = self.runs[place], self.runs[place].best(KNN)
            made.add_row(
                run.name,
                run.state,
                str(run.epochs),
                *(value_text(self.config[key][place]) for key in keys),
                *(metric_text(run.last(tag), tag) for tag in tags),
                percent(best.value if best else None),
                *(percent(self.evaluations[label][place]) for label in scores),
            )
        more = len(self.config) - len(keys)
        return render(made) + (f"\n{more} more keys differ (--json shows all)" if more else "")

    def _best_first(self) -> list[int]:
        """Return the places of the runs, by their best k-NN accuracy."""
        bests = [run.best(KNN) for run in self.runs]
        return sorted(range(len(self.runs)), key=lambda i: -best.value if (best := bests[i]) else 1.0)


def compare(runs: Sequence[str | Path]) -> Comparison:
    """Compare runs; a sweep stands for its trials.

    Args:
        runs: run or sweep directories.

    Raises:
        InputError: one of them is neither, or cannot be read.
    """
    records = read_runs(runs)
    return Comparison(records, _differing(records), _metrics(records), _evaluations(records))


def short_names(keys: Sequence[str]) -> list[str]:
    """Return the last part of each dotted key where that is enough to tell it from the others."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for short, key in zip(last, keys, strict=True)]


def _differing(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    flat = [dict(leaves(run.config)) for run in runs]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    rows = {key: [values.get(key, NO_KEY) for values in flat] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _metrics(runs: Sequence[RunRecord]) -> dict[str, list[Metric | None]]:
    tags = sorted({tag for run in runs for tag in run.curves}, key=_order)
    return {tag: [_metric(run, tag) for run in runs] for tag in tags}


def _metric(run: RunRecord, tag: str) -> Metric | None:
    last, best = run.last(tag), run.best(tag)
    return None if last is None or best is None else Metric(last, best)


def _order(tag: str) -> tuple[int, str]:
    """Sort the loss first, then what was judged, then the rest of training."""
    if tag == LOSS:
        return 0, tag
    places = (place for place, room in enumerate(_ROOMS, start=1) if tag.startswith(room))
    return next(places, len(_ROOMS) + 1), tag


def _evaluations(runs: Sequence[RunRecord]) -> dict[str, list[float | None]]:
    found = [_scores(run) for run in runs]
    labels = sorted({label for scores in found for label in scores})
    return {label: [scores.get(label) for scores in found] for label in labels}


def _scores(run: RunRecord) -> dict[str, float]:
    """Return a run's scores by label; those of a later checkpoint, then of a later time, replace others."""
    scores: dict[str, float] = {}
    for result in sorted(run.evaluations, key=lambda r: (r["checkpoint"]["epoch"], r["time"])):
        stem = "; ".join([f"{result['split']}/{result['label']}", *result["data"]["changed"]])
        encoders = {"": result["metrics"], **{f" ({name})": m for name, m in result["baselines"].items()}}
        for behind, metrics in encoders.items():
            scores |= {f"{stem} {name}{behind}": value for name, value in metrics.items()}
    return scores


def _metric_text(metric: Metric | None, tag: str) -> str:
    if metric is None:
        return ABSENT
    best = f" ({metric_text(metric.best.value, tag)})" if has_best(tag) else ""
    return metric_text(metric.last, tag) + best
