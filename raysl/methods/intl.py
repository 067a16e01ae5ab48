"""INTL: compare views after a few iterations of whitening, with a trace loss (arXiv 2305.16789)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from raysl.errors import InputError
from raysl.losses.intl import Axis, IntlLoss, intl_loss, trade_off
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class IntlConfig(base.MethodConfig):
    """What INTL and INTL-M share. The authors' published ImageNet runs have the defaults."""

    axis: Literal[0, 1] = 0
    """0 whitens the rows of the global batch over the channels, 1 the channels over the batch."""

    iterations: int = Field(4, ge=1, le=20)
    """T, Newton's iterations of the whitening; more of them whiten smaller eigenvalues."""

    beta: float | None = Field(None, ge=0.0, le=100.0)
    """Weight of the trace loss; null: 0.01 (log2 n - 3), n the global batch (axis 0) or the embedding's size
    (axis 1)."""

    projector: HeadConfig = HeadConfig(layers=3, width=8192, out=8192)
    """From features to embeddings."""

    views_required: ClassVar[tuple[int, int | None]] = (2, None)
    """Two views or more, of any sizes; the others are compared with the first."""

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Add what becomes of beta, and whether the batch still fits the embedding."""
        changes = super().rescale(scaling)
        before, after = scaling.batch_size
        if self.axis == 1 or before == after:
            return changes
        old, new = (trade_off(batch, 0) for batch in (before, after))
        rule = f"0.01 (log2 n - 3) with n the global batch, {before} -> {after}"
        beta, out = self.beta, self.projector.out
        if beta is None:
            changes.append(Change("method.beta", old, new, "rescaled", rule, derived=True))
        elif min(old, new) > 0.0:
            scaled = beta * new / old
            changes.append(Change("method.beta", beta, scaled, "rescaled", f"in proportion to {rule}"))
        else:
            changes.append(Change("method.beta", beta, beta, "unsafe", f"{rule}, is not above 0 here"))
        if out is not None and out <= after:
            why = f"{after} rows over {out} channels cannot all be whitened; more than {after} would do"
            changes.append(Change("method.projector.out", out, out, "unsafe", why))
        return changes


class Config(IntlConfig):
    """Hyperparameters of INTL."""

    name: Literal["intl"] = "intl"
    """The method."""


class Method(base.Method):
    """One encoder for all views, whose embeddings are whitened over the global batch.

    Views may differ in size. Each passes the networks as a batch of its own.

    Source: arXiv 2305.16789, section 4.
    """

    def __init__(self, config: IntlConfig, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        self.batch_size = plan.batch_size
        self.dimension = config.projector.out_features(backbone.features)
        self.beta = resolve_beta(config.beta, plan.batch_size, self.dimension, config.axis)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W) of its own height and width."""
        embeddings = [gather(self.projector(self.backbone(view))) for view in views]
        loss = intl_loss(
            embeddings,
            beta=self.beta,
            axis=self.config.axis,
            iterations=self.config.iterations,
            # Eigenvalues cost more than the whitening, so they are looked at once an epoch.
            with_condition=step.starts_epoch,
        )
        return LossReport(loss.total, parts_of(loss), embeddings[0].detach())

    def describe(self) -> list[str]:
        """Return the resolved beta, and whether the rank is too small to whiten everything."""
        axis, batch_size, dimension = self.config.axis, self.batch_size, self.dimension
        n, of = (batch_size, "the global batch") if axis == 0 else (dimension, "the embedding's size")
        source = "as given" if self.config.beta is not None else f"0.01 (log2 {n} - 3), from {of}"
        lines = [f"trace loss weight beta {self.beta:g} ({source})"]
        rank = min(batch_size, dimension - 1) if axis == 0 else min(batch_size - 1, dimension)
        if rank < n:
            lines.append(
                f"axis {axis} whitens {n} directions, of which a batch of {batch_size} embeddings of "
                f"{dimension} has {rank}: the trace loss stays above 0"
            )
        return lines


def resolve_beta(beta: float | None, batch_size: int, dimension: int, axis: Axis) -> float:
    """Return the weight of the trace loss: as given, else the authors' rule.

    Raises:
        InputError: the rule has no sensible value for so few.
    """
    if beta is not None:
        return beta
    resolved = trade_off(batch_size, dimension, axis)
    if resolved < 0.0:
        few = f"a global batch of {batch_size} images" if axis == 0 else f"embeddings of {dimension} channels"
        raise InputError(
            f"method.beta: the rule 0.01 (log2 n - 3) is below 0 for {few}; give a number, or use 8 or more"
        )
    return resolved


def parts_of(loss: IntlLoss) -> dict[str, Tensor]:
    """Return what is logged beside the loss."""
    parts = {"mse": loss.mse, "trace_loss": loss.trace}
    return parts if loss.condition is None else {**parts, "condition": loss.condition}
