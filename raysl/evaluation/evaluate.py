"""Judging a run: find its checkpoint, show it the images, score the features, keep the result."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raysl.errors import InputError
from raysl.evaluation.encoders import RAW_PIXELS, TRAINED, UNTRAINED, Encoders
from raysl.evaluation.features import image_channels
from raysl.evaluation.images import Images, load_images
from raysl.evaluation.locate import Located, locate
from raysl.evaluation.protocols.base import Measured
from raysl.evaluation.request import Request, read_request
from raysl.evaluation.result import Comparison, Difference, EvaluationResult, compare_published
from raysl.metrics.knn import paired_interval
from raysl.train.atomic import write_atomically
from raysl.train.environment import describe_environment
from raysl.train.events import EventWriter

__all__ = ["EvaluationResult", "PreparedEvaluation", "evaluate", "prepare_evaluation", "run_evaluation"]


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation that has been checked and can start.

    Args:
        located: the checkpoint.
        request: protocol, options, and how features are computed.
        images: the labelled images.
        baselines: what is judged beside the trained encoder.
        notes: what a reader of the scores should know.
        began: when it was asked for, on the monotonic clock.
        name: name of the result's file, where the user gave one.
    """

    located: Located
    request: Request
    images: Images
    baselines: tuple[str, ...]
    notes: tuple[str, ...]
    began: float
    name: str | None = None

    @property
    def encoders(self) -> Encoders:
        """Makes the features."""
        return Encoders(self.located, self.images, self.request.features)

    @property
    def path(self) -> Path:
        """The file of the result; one for each protocol, options, images, split and checkpoint."""
        if self.name is not None:
            return self.located.run.evaluation / f"{self.name}.json"
        request = self.request
        beside = "baselines" if self.baselines and not request.protocol.compares else ""
        parts = (request.label, beside, request.images_label, self.images.split, self.located.checkpoint.name)
        name = "-".join(re.sub(r"[^\w.+-]", "_", part) for part in parts if part)
        return self.located.run.evaluation / f"{name}.json"

    def facts(self) -> dict[str, Any]:
        """Return the resolved plan as plain values, for `--dry-run`; `lines` are for people."""
        images, options = self.images.facts(), self.request.options.to_dict()
        judged = [TRAINED, *self.baselines]
        lines = [
            f"{self.request.protocol.name}: "
            + ", ".join(f"{name} {value}" for name, value in options.items()),
            f"{self.located.checkpoint.name} of {self.located.run.path}",
            f"in this process, on {self.encoders.device}",
            f"{images['test_images']} images ({self.images.split}) of {images['classes']} classes after "
            f"{images['train_images']} labelled ones ({images['train_side']})",
            f"judged: {', '.join(judged)}",
            *self.notes,
            f"result: {self.path}",
        ]
        return {
            "run": str(self.located.run.path),
            "protocol": self.request.protocol.name,
            "options": options,
            "split": self.images.split,
            "checkpoint": self.located.checkpoint.name,
            "data": images,
            "judged": judged,
            "device": str(self.encoders.device),
            "result": str(self.path),
            "lines": lines,
        }


def evaluate(
    run: str | Path,
    protocol: str = "knn",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | Path = "last",
    split: str = "test",
    baselines: bool = False,
    name: str | None = None,
) -> EvaluationResult:
    """Judge a run's encoder and keep the result in the run directory.

    Args:
        run: a run directory, or a checkpoint directory within one.
        protocol: `knn`, `knn-few`, `linear-cached` or `lbfgs`.
        overrides: `key=value` each: options of the protocol, `features.*`, and of the run's config what says
            which labelled images there are (`data.test`, `data.label_column`, ...) and how they are shown
            (`views.evaluation.*`).
        checkpoint: `last`, `best`, a checkpoint's name or its path.
        split: what is classified: `test`, after all training images; or `selection`, after those the encoder
            was trained on.
        baselines: judge raw pixels and the same encoder untrained too; `knn-few` always does.
        name: name of the result's file; made from the arguments when not given.

    Returns:
        The result, which is also in the run's `evaluation` folder and in its TensorBoard.

    Raises:
        InputError: no such run, checkpoint, protocol, option or split, or no labels.
        RayslError: the features are not finite.
    """
    return run_evaluation(
        prepare_evaluation(
            run, protocol, overrides, checkpoint=checkpoint, split=split, baselines=baselines, name=name
        )
    )


def prepare_evaluation(
    run: str | Path,
    protocol: str = "knn",
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | Path = "last",
    split: str = "test",
    baselines: bool = False,
    name: str | None = None,
) -> PreparedEvaluation:
    """Load the images and check all that can be checked before anything is computed; see `evaluate`."""
    began = time.monotonic()
    located = locate(run, checkpoint)
    request = read_request(protocol, overrides, located.config)
    images = load_images(request.config, split)
    wanted = image_channels(located.config)
    if images.test.channels != wanted:
        raise InputError(
            f"{located.run.path}: its encoder takes {wanted} channel(s) and the images have "
            f"{images.test.channels}; set data.channels={wanted}"
        )
    notes = [*images.notes, *request.notes(located.config)]
    prepared = PreparedEvaluation(located, request, images, (), tuple(notes), began)
    if not (baselines or request.protocol.compares):
        return prepared
    skipped = prepared.encoders.skipped()
    judged = tuple(name for name in (UNTRAINED, RAW_PIXELS) if name not in skipped)
    return replace(prepared, baselines=judged, notes=(*notes, *skipped.values()))


def run_evaluation(prepared: PreparedEvaluation) -> EvaluationResult:
    """Compute and score the features, and keep the result."""
    encoders, request, images = prepared.encoders, prepared.request, prepared.images
    measured: dict[str, Measured] = {}
    features = 0
    for name in (TRAINED, *prepared.baselines):
        train_x, test_x = encoders.encode(name)
        features = features or train_x.shape[1]
        train_y, test_y = images.train_y.to(train_x.device), images.test_y.to(train_x.device)
        measured[name] = request.protocol.measure(train_x, train_y, test_x, test_y, request.options)
    result = _result(prepared, measured, features)
    prepared.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(prepared.path, json.dumps(result.to_dict(), indent=1))
    return result


def _result(prepared: PreparedEvaluation, measured: dict[str, Measured], features: int) -> EvaluationResult:
    located, request, images = prepared.located, prepared.request, prepared.images
    notes = [*prepared.notes]
    for name, scores in measured.items():
        notes += [note if name == TRAINED else f"{name}: {note}" for note in scores.notes]
    if not _tell_tensorboard(prepared, measured[TRAINED]):
        notes.append("not in TensorBoard, because the run is being trained; evaluate again when it has ended")
    data = request.config.data
    normalization = images.views.normalization
    return EvaluationResult(
        run=located.run.path,
        protocol=request.protocol.name,
        label=request.label,
        options=request.options.to_dict(),
        split=images.split,
        checkpoint={
            "name": located.checkpoint.name,
            "sha256": located.sha256,
            "epoch": located.epoch,
            "step": located.step,
        },
        data={
            **images.facts(),
            "source": data.source,
            "test": data.test,
            "label_column": data.label_column,
            "image_size": data.image_size,
            "changed": list(request.changes),
        },
        encoder={
            **located.config.backbone.to_dict(),
            "features": features,
            "precision": "float32",
            "mode": "evaluation",
            "device": str(prepared.encoders.device),
        },
        view={
            "shown": list(images.shown),
            **images.views.config.evaluation.to_dict(),
            "mean": list(normalization.mean),
            "std": list(normalization.std),
        },
        metrics=measured[TRAINED].metrics,
        baselines={name: scores.metrics for name, scores in measured.items() if name != TRAINED},
        repeats={name: list(scores.repeats) for name, scores in measured.items() if scores.repeats},
        differences=_differences(measured),
        published=_published(prepared, measured[TRAINED]),
        seed=located.config.train.seed,
        versions=describe_environment()["versions"],
        seconds=time.monotonic() - prepared.began,
        time=time.time(),
        notes=notes,
        path=prepared.path,
    )


def _differences(measured: dict[str, Measured]) -> dict[str, Difference]:
    trained = measured[TRAINED].repeats
    if not trained:
        return {}
    return {
        name: Difference(*paired_interval(trained, scores.repeats), pairs=len(trained))
        for name, scores in measured.items()
        if name != TRAINED
    }


def _published(prepared: PreparedEvaluation, scores: Measured) -> list[Comparison]:
    published, request = prepared.located.config.published, prepared.request
    if published is None or published == "ours" or prepared.images.split != "test" or request.changes:
        return []
    return compare_published(published, request.protocol.name, scores.metrics)


def _tell_tensorboard(prepared: PreparedEvaluation, scores: Measured) -> bool:
    """Write the scores at the checkpoint's epoch, unless the run is being trained.

    TensorBoard follows the newest file of a run: a second writer would hide the epochs still to come.
    """
    run = prepared.located.run
    if run.status()["state"] == "running":
        return False
    request = prepared.request
    judged = "-".join(part for part in (request.label, request.images_label) if part).replace("-", "_")
    stem = f"{prepared.images.split}/{judged}"
    events = EventWriter(run.tensorboard, next_epoch=1)
    events.scalars(
        prepared.located.epoch, {f"{stem}_{name}": value for name, value in scores.metrics.items()}
    )
    events.close()
    return True
