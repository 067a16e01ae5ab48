"""VICReg: variance, invariance and covariance of two views' embeddings (arXiv 2105.04906)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from raysl.losses.redundancy import vicreg_loss
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class Config(base.MethodConfig):
    """Hyperparameters of VICReg."""

    name: Literal["vicreg"] = "vicreg"
    """The method."""

    invariance: float = Field(25.0, ge=0.0, le=1e4)
    """Weight of the mean squared error between the views."""

    variance: float = Field(25.0, ge=0.0, le=1e4)
    """Weight of the hinge that keeps each dimension's standard deviation at 1 or above."""

    covariance: float = Field(1.0, ge=0.0, le=1e4)
    """Weight of the squared covariances between dimensions."""

    reference_exact: bool = False
    """Take the variance term of both views as a sum, as the CW-RGP authors' copy of the method does, in place
    of the mean, as VICReg's own authors do."""

    projector: HeadConfig = HeadConfig(layers=3, width=8192, out=8192)
    """From features to embeddings (the paper's expander)."""

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Keep the weight of the covariances, squared means over the batch."""
        noise = "covariances are means over the batch, and what chance adds to their squares"
        kept = base.kept_weight("method.covariance", self.covariance, scaling, noise)
        return [*super().rescale(scaling), *kept]


class Method(base.Method):
    """One encoder for both views, each a batch of its own.

    Source: arXiv 2105.04906, section 4.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two views, each (N_local, C, H, W)."""
        config = self.config
        first, second = (gather(self.projector(self.backbone(view))) for view in views)
        loss = vicreg_loss(
            first,
            second,
            invariance=config.invariance,
            variance=config.variance,
            covariance=config.covariance,
            reference_exact=config.reference_exact,
        )
        parts = {
            "invariance": loss.invariance,
            "variance": loss.variance,
            "covariance": loss.covariance,
        }
        return LossReport(loss.total, parts, first.detach())
