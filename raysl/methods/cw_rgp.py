"""CW-RGP: channel whitening in random groups, W-MSE the other way round (arXiv 2210.03586)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from raysl.config import Duration
from raysl.errors import InputError
from raysl.losses.cw_rgp import cw_rgp_loss
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.methods.w_mse import (
    random_permutations,
    require_divides,
    rescaled_w_size,
    stopped_when_singular,
)
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class Config(base.MethodConfig):
    """Hyperparameters of CW-RGP, by default those of the authors' CIFAR runs.

    The defaults compute what the authors' code does; `recentre` whitens each group as the paper has it.
    """

    name: Literal["cw_rgp"] = "cw_rgp"
    """The method."""

    whitening: Literal["zca", "pca", "cholesky", "standardize", "none"] = "zca"
    """`zca`, `pca` and `cholesky` whiten; `standardize` only scales each variable, and `none` does nothing:
    the two to compare with."""

    axis: Literal[0, 1] = 0
    """0 whitens the rows of a sub-batch over their channels, 1 the channels over the rows."""

    groups: int = Field(4, ge=1)
    """G, equal groups of channels, each whitened by itself; must divide the projector's outputs."""

    permute_channels: bool = True
    """Draw the groups at random, anew for every sub-batch and view."""

    recentre: bool = False
    """Axis 0: centre each row over its group, as the paper has it; false centres it over all channels, as the
    authors' code does."""

    w_size: int = Field(64, ge=2)
    """Rows of a sub-batch; must divide the global batch. With axis 0 a group needs more channels than that,
    with axis 1 fewer, or directions are left out."""

    w_iter: int = Field(1, ge=1, le=64)
    """How often a batch is split into sub-batches at random; the loss is the mean."""

    eps: float = Field(0.0, ge=0.0, lt=1.0)
    """Shrinkage of each covariance: (1 - eps) cov + eps I."""

    norm: bool = True
    """Compare directions of whitened embeddings; false compares them as they are."""

    on_singular: Literal["error", "eigh"] = "eigh"
    """What a singular covariance does. `eigh`: leave out the directions that are missing, where the authors'
    code divides by what rounding makes of zero. `error`: end the run."""

    cov_weight: float = Field(0.0, ge=0.0, le=1000.0)
    """Weight of the covariance loss on the raw embeddings of each sub-batch, summed over views."""

    cov_stop: Duration | None = None
    """When that loss ends: epochs, `"50%"` of the horizon, or `"500 steps"`; null: never."""

    projector: HeadConfig = HeadConfig(layers=2, width=1024, out=512)
    """From features to embeddings; its batch normalisation sees the views of a batch together."""

    views_required: ClassVar[tuple[int, int | None]] = (2, None)
    """Two views or more; the loss is the mean over pairs of views."""

    micro_batch_loss: ClassVar[str | None] = (
        "whitening and covariances are by sub-batch of method.w_size rows, so it is the same loss with the "
        "sub-batches drawn within micro-batches"
    )
    """Meaningful, since no statistic spans more than a sub-batch."""

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Keep w_size where it divides the new batch, and with it the groups."""
        changes = [*super().rescale(scaling), *rescaled_w_size(self.w_size, scaling, None)]
        epochs, horizon = scaling.epochs
        if epochs != horizon and isinstance(self.cov_stop, int | float):
            why = "the same share of the horizon, as the authors' runs of 100 and 200 epochs have it"
            stop = self.cov_stop * horizon / epochs
            changes.append(Change("method.cov_stop", self.cov_stop, stop, "rescaled", why))
        if scaling.batch_size[0] == scaling.batch_size[1]:
            return changes
        w_size = next(change.new for change in changes if change.key == "method.w_size")
        channels = None if self.projector.out is None else self.projector.out // self.groups
        fits = self.axis == 1 or channels is None or channels > w_size or w_size == self.w_size
        why = "the channels are the same, and it is them that the groups divide"
        if not fits:
            why = f"a group's {channels} channels no longer exceed the {w_size} rows whitened over them"
        label: base.Label = "transferred" if fits else "unsafe"
        return [*changes, Change("method.groups", self.groups, self.groups, label, why)]


class Method(base.Method):
    """One encoder for all views, whose embeddings are whitened group by group before they are compared.

    The backbone sees each view as a batch of its own and the projector all of them as one, as in the authors'
    code.

    Source: arXiv 2210.03586, section 4; the authors' `CW_RGP`, with the covariance term of their ImageNet
    code.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        self.dimension = config.projector.out_features(backbone.features)
        require_divides(config.w_size, plan.batch_size)
        if self.dimension % config.groups:
            raise InputError(
                f"method.groups = {config.groups}: does not divide the projector's {self.dimension} outputs; "
                "use a divisor or another method.projector.out"
            )
        if config.axis == 0 and self.dimension // config.groups < 2:
            raise InputError(
                f"method.groups = {config.groups}: leaves one channel in a group, over which nothing varies; "
                f"use at most {self.dimension // 2}"
            )
        self.sub_batches = plan.batch_size // config.w_size
        self.cov_steps = None if config.cov_stop is None else plan.steps(config.cov_stop)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W)."""
        config = self.config
        features = torch.cat([self.backbone(view) for view in views])
        embeddings = [gather(part) for part in self.projector(features).chunk(len(views))]
        generator = step.generator()
        permutations = random_permutations(generator, config.w_iter, len(embeddings[0]))
        channels = None
        if config.permute_channels:
            shape = (config.w_iter, self.sub_batches, len(views))
            channels = random_permutations(
                generator, config.w_iter * self.sub_batches * len(views), self.dimension
            ).view(*shape, -1)
        with stopped_when_singular(step):
            loss = cw_rgp_loss(
                embeddings,
                permutations=permutations,
                w_size=config.w_size,
                channel_permutations=channels,
                whitening=config.whitening,
                axis=config.axis,
                groups=config.groups,
                eps=config.eps,
                recentre=config.recentre,
                norm=config.norm,
                on_singular=config.on_singular,
                cov_weight=self._cov_weight(step),
            )
        parts = {"distance": loss.distance}
        if loss.covariance is not None:
            parts["covariance"] = loss.covariance
        if loss.condition is not None:
            parts["condition"] = loss.condition
        return LossReport(loss.total, parts, embeddings[0].detach())

    def _cov_weight(self, step: Step) -> float:
        return self.config.cov_weight if self.cov_steps is None or step.index < self.cov_steps else 0.0

    def describe(self) -> list[str]:
        """Return how a batch and its channels are split, and until when covariances count."""
        config, channels = self.config, self.dimension // self.config.groups
        lines = [
            f"whitening {self.sub_batches} sub-batches of {config.w_size} rows in each view, "
            f"{config.groups} group(s) of {channels} channels"
        ]
        if config.axis == 0 and channels <= config.w_size and config.eps == 0:
            lines.append(
                f"{channels} channels determine at most as many of {config.w_size} directions; "
                "the rest is left out"
            )
        if config.cov_weight and self.cov_steps is not None:
            lines.append(f"covariance loss for the first {self.cov_steps} steps")
        return lines
