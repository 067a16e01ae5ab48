"""What an evaluation found, with everything that is needed to do it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl.errors import InputError

if TYPE_CHECKING:
    from raysl.train.config import Published

FORMAT = 1


@dataclass(frozen=True)
class Difference:
    """How much better the trained encoder is than a baseline, in percentage points, over paired repetitions.

    Args:
        mean: mean difference.
        low: lower end of its 95 % interval.
        high: upper end.
        pairs: repetitions.
    """

    mean: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Comparison:
    """A score beside the one that the recipe's authors published.

    Args:
        metric: `protocol/metric`.
        value: theirs, in percent.
        source: where it is from.
        difference: this run's less theirs, in percentage points.
    """

    metric: str
    value: float
    source: str
    difference: float


def compare_published(
    published: Sequence[Published], protocol: str, metrics: Mapping[str, float]
) -> list[Comparison]:
    """Return how metrics of a protocol compare with the published ones of the same name."""
    scores = {f"{protocol}/{name}": value for name, value in metrics.items()}
    return [
        Comparison(one.metric, one.value, one.source, scores[one.metric] - one.value)
        for one in published
        if one.metric in scores
    ]


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation.

    Args:
        run: the run directory.
        protocol: name of the protocol.
        label: the protocol and the options that are not its defaults, for tables and file names.
        options: all options of the protocol.
        split: what was classified: `test` or `selection`.
        checkpoint: name, sha256 of the weights, epoch, step.
        data: source, sizes, classes, and how many test images are among the training images.
        encoder: the backbone, its number of features, and how it computed them.
        view: size and normalisation of the images it was shown.
        metrics: scores of the trained encoder; accuracies in percent.
        baselines: the same scores of `untrained` and `raw_pixels`, where they were asked for.
        repeats: top-1 of each repetition by `trained` and baseline, where the protocol repeats.
        differences: trained minus baseline, where the protocol repeats.
        published: beside what the recipe's authors report of this protocol; none where other images or
            another split were judged.
        seed: the run's seed; those of the protocol are among its options.
        versions: of the packages that computed it.
        seconds: how long it took, the images included.
        time: when it ended, in unix seconds.
        notes: what a reader of the scores should know, one line each.
        path: the file it is kept in.
    """

    run: Path
    protocol: str
    label: str
    options: dict[str, Any]
    split: str
    checkpoint: dict[str, Any]
    data: dict[str, Any]
    encoder: dict[str, Any]
    view: dict[str, Any]
    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    repeats: dict[str, list[float]]
    differences: dict[str, Difference]
    published: list[Comparison]
    seed: int
    versions: dict[str, Any]
    seconds: float
    time: float
    notes: list[str]
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"format": FORMAT, **asdict(self), "run": str(self.run), "path": str(self.path)}

    def describe(self) -> str:
        """Return the result as a person reads it: a line on what was judged, one for each score, the file."""
        data, rows = self.data, {"trained": self.metrics, **self.baselines}
        width = max(len(name) for name in rows)
        lines = [
            f"{self.label}, {data['train_images']} labelled images, {data['test_images']} to classify "
            f"({self.split}): {self.checkpoint['name']} of {self.run}"
        ]
        lines += [f"  {name:<{width}}  {_scores(metrics)}" for name, metrics in rows.items()]
        lines += [
            f"  trained - {name}: {gap.mean:+.2f} points, 95 % interval {gap.low:+.2f} to {gap.high:+.2f} "
            f"({gap.pairs} pairs)"
            for name, gap in self.differences.items()
        ]
        options = "" if self.label == self.protocol else "; the options differ from the protocol's own"
        lines += [
            f"  the recipe's published {one.metric} {one.value:.2f} ({one.source}); "
            f"this run {one.difference:+.2f}{options}"
            for one in self.published
        ]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes), f"  {self.path}"])


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the evaluation results in a run's `evaluation` folder, oldest first.

    Raises:
        InputError: a file there is not a result of this raysl.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            usable = values["format"] == FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: not an evaluation result ({error}); move it away") from None
        if not usable:
            raise InputError(f"{file}: format {values['format']}; this raysl reads format {FORMAT}")
        found.append(values)
    return sorted(found, key=lambda values: float(values["time"]))


def _scores(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
