"""W-MSE: pull whitened views together, so that nothing has to be pushed apart (arXiv 2007.06346)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from raysl.errors import InputError, TrainingStopped
from raysl.losses.w_mse import w_mse_loss
from raysl.losses.whitening import SingularCovarianceError
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class Config(base.MethodConfig):
    """Hyperparameters of W-MSE, by default those of the authors' CIFAR runs."""

    name: Literal["w_mse"] = "w_mse"
    """The method."""

    w_size: int = Field(128, ge=2)
    """Rows of a sub-batch that are whitened together; must divide the global batch and, without `eps`, exceed
    the projector's outputs."""

    w_iter: int = Field(1, ge=1, le=64)
    """How often a batch is split into sub-batches at random; the loss is the mean."""

    eps: float = Field(0.0, ge=0.0, lt=1.0)
    """Shrinkage of the covariance: (1 - eps) cov + eps I."""

    norm: bool = True
    """Compare directions of whitened embeddings; false compares them as they are."""

    on_singular: Literal["error", "eigh"] = "error"
    """What a singular covariance does. `error`: end the run. `eigh`: whiten that step by its eigenvectors
    (ZCA) and leave out the directions that are missing."""

    projector: HeadConfig = HeadConfig(layers=2, width=1024, out=64)
    """From features to embeddings; its batch normalisation sees the views of a batch together."""

    views_required: ClassVar[tuple[int, int | None]] = (2, None)
    """Two views or more; the loss is the mean over pairs of views."""

    micro_batch_loss: ClassVar[str | None] = (
        "whitening is by sub-batch of method.w_size rows, so it is the same loss with the sub-batches drawn "
        "within micro-batches"
    )
    """Meaningful, since no statistic spans more than a sub-batch."""

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Keep w_size where it divides the new batch."""
        least = self.projector.out if self.eps == 0 else None
        return [*super().rescale(scaling), *rescaled_w_size(self.w_size, scaling, least)]


class Method(base.Method):
    """One encoder for all views, whose embeddings are whitened before they are compared.

    The backbone sees each view as a batch of its own and the projector all of them as one, as in the authors'
    code.

    Source: arXiv 2007.06346, section 3; the authors' `WMSE`.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        dimension = config.projector.out_features(backbone.features)
        require_divides(config.w_size, plan.batch_size)
        if config.eps == 0 and config.w_size <= dimension and config.on_singular == "error":
            raise InputError(
                f"method.w_size = {config.w_size}: whitening {dimension} dimensions without method.eps needs "
                f"more than {dimension} rows; raise it, lower method.projector.out, or set method.eps = 0.001"
            )
        self.sub_batches = plan.batch_size // config.w_size

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W)."""
        config = self.config
        features = torch.cat([self.backbone(view) for view in views])
        embeddings = [gather(part) for part in self.projector(features).chunk(len(views))]
        with stopped_when_singular(step):
            loss = w_mse_loss(
                embeddings,
                permutations=random_permutations(step.generator(), config.w_iter, len(embeddings[0])),
                w_size=config.w_size,
                eps=config.eps,
                norm=config.norm,
                on_singular=config.on_singular,
            )
        parts = {} if loss.condition is None else {"condition": loss.condition}
        return LossReport(loss.total, parts, embeddings[0].detach())

    def describe(self) -> list[str]:
        """Return how a batch is split."""
        return [f"whitening {self.sub_batches} sub-batches of {self.config.w_size} rows in each view"]


def random_permutations(generator: torch.Generator, count: int, size: int) -> Tensor:
    """Return `(count, size)`, each row a permutation."""
    return torch.stack([torch.randperm(size, generator=generator) for _ in range(count)])


def require_divides(w_size: int, batch_size: int) -> None:
    """Refuse a w_size that does not divide the batch.

    Raises:
        InputError: names the divisors nearest to it.
    """
    if batch_size % w_size:
        near = sorted(_divisors(batch_size), key=lambda size: abs(math.log(size / w_size)))[:2]
        raise InputError(
            f"method.w_size = {w_size}: does not divide the batch of {batch_size}; "
            f"use {' or '.join(str(size) for size in sorted(near))}, or another train.batch_size"
        )


def rescaled_w_size(w_size: int, scaling: Scaling, least: int | None) -> list[Change]:
    """Return what a larger batch makes of w_size, which it keeps if it can.

    Args:
        w_size: as it is.
        scaling: what differs.
        least: w_size has to be above it.
    """
    before, after = scaling.batch_size
    if before == after:
        return []
    key = "method.w_size"
    if after % w_size == 0:
        why = (
            "statistics are of a sub-batch, whatever the batch; "
            f"{after // w_size} sub-batches a step instead of {before // w_size}"
        )
        return [Change(key, w_size, w_size, "transferred", why)]
    fitting = [size for size in _divisors(after) if least is None or size > least]
    if not fitting:
        why = f"no divisor of {after} exceeds the {least} dimensions to whiten; take another batch"
        return [Change(key, w_size, w_size, "unsafe", why)]
    new = min(fitting, key=lambda size: abs(math.log(size / w_size)))
    near = w_size / math.sqrt(2) <= new <= w_size * math.sqrt(2)
    why = f"{w_size} does not divide {after}; this is the nearest divisor" + (
        "" if near else ", and so far from it that whitening is by other statistics"
    )
    return [Change(key, w_size, new, "rescaled" if near else "unsafe", why)]


@contextmanager
def stopped_when_singular(step: Step) -> Iterator[None]:
    """End the run, with its cause, when a covariance cannot be inverted.

    Raises:
        TrainingStopped: the cause is `singular`.
    """
    try:
        yield
    except SingularCovarianceError as error:
        epoch, index = divmod(step.index, max(1, step.plan.steps_per_epoch))
        hint = "raise method.w_size or method.eps, lower the learning rate, or set method.on_singular = eigh"
        detail = f"{error}, at epoch {epoch + 1}, step {index + 1}; {hint}"
        raise TrainingStopped("singular", detail, epoch) from error


def _divisors(number: int) -> list[int]:
    return [size for size in range(2, number + 1) if number % size == 0]
