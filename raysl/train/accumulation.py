"""A global batch in less memory: the backbone in slices, or the mean over micro-batches.

Row i of a worker's rows belongs to slice i mod A. Workers hold contiguous rows of the global batch, and A
divides their number, so that a slice holds the same images whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raysl.errors import InputError
from raysl.methods.base import LossReport
from raysl.models.backbones import Backbone
from raysl.train.config import RunConfig


@dataclass(frozen=True)
class Slices:
    """Passes images through a network slice by slice, and each slice a second time in the backward pass.

    What is computed is the same but for rounding, unless the network itself looks at the whole batch: batch
    normalisation sees a slice (of all workers). Running statistics are updated once for each slice, by the
    first pass. In evaluation mode images pass at once.

    Args:
        count: A, slices of a batch.
    """

    count: int

    def __call__(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the features `(N, F)` of images `(N, C, H, W)`.

        Raises:
            InputError: A does not divide N.
        """
        if not network.training:
            whole: Tensor = network(images)
            return whole
        if images.shape[0] % self.count:
            raise InputError(
                f"train.accumulation = {self.count}: does not divide the {images.shape[0]} rows that the "
                "method gives its backbone at once; use a divisor"
            )

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _CopiedBuffers(network)

        parts = take_slices([images], self.count)
        if torch.is_grad_enabled():
            features = [checkpoint(network, x, use_reentrant=False, context_fn=contexts) for (x,) in parts]
        else:
            features = [network(x) for (x,) in parts]
        return torch.stack(features, dim=1).flatten(0, 1)


class _CopiedBuffers(AbstractContextManager[None]):
    """Lets a network update copies of its buffers, which are then forgotten. May be entered again."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._held: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        self._held = [
            (module, name, buffer)
            for module in self._network.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        for module, name, buffer in self._held:
            setattr(module, name, buffer.clone())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, name, buffer in self._held:
            setattr(module, name, buffer)


def take_slices(views: Sequence[Tensor], count: int) -> list[list[Tensor]]:
    """Return every view's rows k, k + A, k + 2 A, ... for each k below A."""
    return [[view[k::count] for view in views] for k in range(count)]


def slice_backbones(module: nn.Module, count: int) -> None:
    """Make every backbone in a module, teachers' too, take its images in slices."""
    for part in module.modules():
        if isinstance(part, Backbone):
            part.route = Slices(count) if count > 1 else None


def micro_batches(config: RunConfig) -> int:
    """Return how many losses an optimizer step is the mean of."""
    return config.train.accumulation if config.train.accumulation_loss == "micro" else 1


def mean_report(reports: Sequence[LossReport]) -> LossReport:
    """Join the reports of a step's micro-batches: means of losses and parts, all embeddings."""
    if len(reports) == 1:
        return reports[0]
    loss = torch.stack([report.loss.detach() for report in reports]).mean()
    parts = {
        name: torch.stack([report.parts[name].detach() for report in reports]).mean()
        for name in reports[0].parts
    }
    return LossReport(loss, parts, torch.cat([report.embeddings for report in reports]))


def check_accumulation(config: RunConfig, workers: int) -> None:
    """Refuse slices that some worker's rows cannot be cut into.

    Raises:
        InputError: the rows of a worker are not a multiple of `train.accumulation`.
    """
    train = config.train
    if train.batch_size % (workers * train.accumulation):
        step = workers * train.accumulation
        low, high = train.batch_size // step * step, (train.batch_size // step + 1) * step
        raise InputError(
            f"train.accumulation = {train.accumulation}: the {train.batch_size / workers:g} rows of each of "
            f"{workers} workers do not divide into as many slices; use train.batch_size="
            f"{' or '.join(str(size) for size in (low, high) if size)}"
        )


def describe_accumulation(config: RunConfig) -> list[str]:
    """Return what accumulation means for a run, a line, or none without it."""
    train = config.train
    if train.accumulation == 1:
        return []
    size = train.batch_size // train.accumulation
    if train.accumulation_loss == "micro":
        return [
            f"accumulation: {train.accumulation} micro-batches of {size} images in a step, whose loss is the "
            f"mean of theirs: {config.method.micro_batch_loss}"
        ]
    return [
        f"accumulation: the loss is that of all {train.batch_size} images; the backbone takes each view in "
        f"{train.accumulation} slices of {size}, twice (batch normalisation inside it sees a slice)"
    ]
