"""Barlow Twins: make the cross-correlation of two views the identity (arXiv 2103.03230)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from raysl.losses.redundancy import barlow_twins_loss
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class Config(base.MethodConfig):
    """Hyperparameters of Barlow Twins."""

    name: Literal["barlow_twins"] = "barlow_twins"
    """The method."""

    lam: float = Field(0.008, ge=0.0, le=10.0)
    """lambda, the weight of the correlations off the diagonal (the paper has 0.005 with 8192 outputs)."""

    reference_exact: bool = False
    """Divide the correlation by the embedding size in place of the batch, as the CW-RGP authors' copy of the
    method does; it also has `projector.last_bn: affine`."""

    projector: HeadConfig = HeadConfig(layers=3, width=8192, out=8192)
    """From features to embeddings. With `last_bn: none` the loss standardises them over the batch; otherwise
    that last normalisation is taken to have done so."""

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Keep lambda, the weight of squared means over the batch."""
        noise = "correlations are means over the batch, and what chance adds to their squares"
        return [*super().rescale(scaling), *base.kept_weight("method.lam", self.lam, scaling, noise)]


class Method(base.Method):
    """One encoder for both views, each a batch of its own.

    Source: arXiv 2103.03230, section 2.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two views, each (N_local, C, H, W)."""
        first, second = (gather(self.projector(self.backbone(view))) for view in views)
        loss = barlow_twins_loss(
            first,
            second,
            lam=self.config.lam,
            standardize=self.config.projector.last_bn == "none",
            reference_exact=self.config.reference_exact,
        )
        parts = {"diagonal": loss.diagonal, "off_diagonal": loss.off_diagonal}
        return LossReport(loss.total, parts, first.detach())
