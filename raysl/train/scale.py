"""From a config that was found with small runs to the one of the big run, each value with its reason.

Three things can be said of a value. *Transferred*: it may stay, because it does not depend on what changes.
*Rescaled*: a rule says what becomes of it. *Unsafe*: no rule is known, or the rule is used outside the range
in which it has been seen to hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raysl.config import build, leaves, merge, nested
from raysl.config.duration import is_relative
from raysl.errors import InputError
from raysl.methods.base import Change, Scaling
from raysl.train.config import RunConfig
from raysl.train.scale_data import data_changes, image_sizes, size_changes
from raysl.train.scale_lengths import Lengths, label_of, rescaled_steps
from raysl.train.scale_optimizer import optimizer_changes, schedule_changes

_LISTED = ("method", "optimizer", "schedule")
KEPT = "no rule ties it to what changes"
"""The reason of values that nothing else is said about."""


@dataclass(frozen=True)
class ScaleRequest:
    """What the big run is to be.

    Args:
        batch_size: images in its global batch.
        workers: processes that share it.
        epochs: its length, and its schedules' horizon; None keeps both.
        image_size: side of its first view in pixels; None keeps it.
        data: its `data.source`; None keeps it.
    """

    batch_size: int
    workers: int
    epochs: int | None = None
    image_size: int | None = None
    data: str | None = None


def scale(
    config: RunConfig, request: ScaleRequest, images: tuple[int, int] | None = None
) -> tuple[RunConfig, list[Change]]:
    """Return the config of a larger run, and what becomes of every value of the small one.

    Args:
        config: the small run.
        request: what the big run is to be.
        images: training images of the small and the big run; None where they are not known, when only the
            ratio of steps counts.

    Returns:
        The config, and the changes: those asked for, then the optimizer's, the schedule's, the method's, then
        the data's, and last what stays.

    Raises:
        InputError: the batch does not divide among the workers or is larger than the data, or a value that
            follows from it is refused by its field.
    """
    _check(config, request, images)
    lengths = _lengths(config, request, images)
    method = config.method.rescale(
        Scaling(
            _loss_batches(config, request.batch_size),
            (lengths.steps[0], lengths.steps[1]),
            image_sizes(config, request.image_size),
            lengths.horizons,
        )
    )
    changes = [
        *_asked_for(config, request, lengths),
        *optimizer_changes(config, request.batch_size),
        *schedule_changes(config, lengths),
        *method,
        *_method_steps(config, lengths, {change.key for change in method}),
        *size_changes(config, request.image_size, request.data),
        *data_changes(config, request.data, request.image_size),
    ]
    if isinstance(config.published, tuple):
        listed = [f"{number.metric} {number.value:g}" for number in config.published]
        changes.append(
            Change("published", listed, None, "rescaled", "it is another run than the published one")
        )
    values = config.to_dict()
    for change in changes:
        if not change.derived:
            values, _ = merge([values, nested(change.key, change.new)])
    return build(RunConfig, values), [*changes, *_kept(config, {change.key for change in changes})]


def _check(config: RunConfig, request: ScaleRequest, images: tuple[int, int] | None) -> None:
    batch, workers = request.batch_size, request.workers
    if batch < 2 or workers < 1 or (request.epochs is not None and request.epochs < 1):
        raise InputError("expected a global batch of 2 or more, and 1 or more workers and epochs")
    if batch % workers:
        near = [size for size in (batch // workers * workers, (batch // workers + 1) * workers) if size]
        raise InputError(
            f"global batch {batch}: does not divide among {workers} workers; "
            f"use {' or '.join(str(size) for size in near)}"
        )
    if images is not None and images[1] < batch:
        source = request.data or config.data.source
        raise InputError(f"global batch {batch}: larger than the {images[1]} training images of {source}")


def _lengths(config: RunConfig, request: ScaleRequest, images: tuple[int, int] | None) -> Lengths:
    batches = (config.train.batch_size, request.batch_size)
    horizons = (config.horizon, config.horizon if request.epochs is None else float(request.epochs))
    # A number that both batches divide, so that the ratio of the steps is exact.
    counts = images or (100 * math.lcm(*batches),) * 2
    small, big = (
        max(1, round(horizon * (count // batch)))
        for horizon, count, batch in zip(horizons, counts, batches, strict=True)
    )
    return Lengths(batches, horizons, (small, big), known=images is not None)


def _loss_batches(config: RunConfig, batch_size: int) -> tuple[int, int]:
    """Return the images that a loss is of, before and after: those of a slice, or of the global batch."""
    micro = config.train.accumulation_loss == "micro"
    slices = config.train.accumulation if micro else 1
    return config.train.batch_size // slices, batch_size // slices


def _asked_for(config: RunConfig, request: ScaleRequest, lengths: Lengths) -> Iterator[Change]:
    batches = (config.train.batch_size, request.batch_size)
    workers = (config.launch.workers, request.workers)
    told = ["as it was" if old == new else "asked for" for old, new in (batches, workers)]
    yield Change("train.batch_size", *batches, label_of(*batches), f"{told[0]}; it is of all workers")
    yield Change("launch.workers", *workers, label_of(*workers), f"{told[1]}; it changes no result")
    share = (batches[0] // workers[0], batches[1] // workers[1])
    why = "batch normalisation and the loss are of the global batch all the same"
    slices = _loss_batches(config, request.batch_size)
    if slices != batches:
        why = "the loss is of slices of the global batch"
        yield Change("images per slice", *slices, label_of(*slices), f"{why}, as accumulation has it", True)
    yield Change("images per worker", *share, label_of(*share), why, True)
    epochs, horizon = (config.train.epochs, request.epochs or config.train.epochs), config.horizon
    if request.epochs is None and epochs[0] < horizon:
        why = f"it ends before its horizon of {horizon:g} epochs; --epochs {horizon:g} would not"
        yield Change("train.epochs", *epochs, "unsafe", why)
    else:
        why = "as many images" if request.epochs is None else "asked for"
        yield Change("train.epochs", *epochs, label_of(*epochs), why)
    yield _steps(config, request, lengths)


def _steps(config: RunConfig, request: ScaleRequest, lengths: Lengths) -> Change:
    """Say how many optimizer steps there are or, where images cannot be counted here, what is assumed."""
    if lengths.known:
        why = f"{lengths.horizons[1]:g} epochs of the images there are"
        return Change("steps in the horizon", *lengths.steps, label_of(*lengths.steps), why, True)
    ratios, source = (1.0, lengths.steps[1] / lengths.steps[0]), config.data.source
    label = label_of(*ratios)
    why = f"the images of {source} cannot be counted here; steps follow epochs / batch"
    if request.data not in (None, source):
        label = "unsafe"
        why = f"the images of {source} and {request.data} cannot both be counted here; taken to be as many"
    return Change("steps, as a share of the small run's", *ratios, label, why, True)


def _method_steps(config: RunConfig, lengths: Lengths, named: set[str]) -> Iterator[Change]:
    """Yield the method's lengths in steps and shares, which no method needs to mention itself."""
    for key, value in _leaves(config, "method"):
        new = rescaled_steps(value, lengths)
        if key in named:
            continue
        if new != value:
            yield Change(key, value, new, "rescaled", "the same share of the horizon")
        elif isinstance(value, str) and is_relative(value) and value.endswith("%"):
            yield Change(key, value, value, "transferred", "a share of the horizon")


def _kept(config: RunConfig, named: set[str]) -> Iterator[Change]:
    for section in _LISTED:
        for key, value in _leaves(config, section):
            if not any(f"{key}.".startswith(f"{other}.") for other in named):
                yield Change(key, value, value, "transferred", KEPT)


def _leaves(config: RunConfig, section: str) -> Iterator[tuple[str, Any]]:
    return leaves(config.to_dict()[section], f"{section}.")
