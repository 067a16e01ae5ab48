"""Matrix-SSL: uniformity and alignment of covariance matrices by matrix cross-entropy (arXiv 2305.17326)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from raysl.losses.matrix_ssl import matrix_ssl_loss
from raysl.methods import base
from raysl.methods.base import LossReport, Momentum, Plan, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.momentum import MomentumTeacher
from raysl.models.parallel import gather

_log = logging.getLogger("raysl")


class Config(base.MethodConfig):
    """Hyperparameters of Matrix-SSL.

    The authors' code defaults to lambda = mu = 0.5; the run its README documents, taken here, has 1, 1, 1.
    """

    name: Literal["matrix_ssl"] = "matrix_ssl"
    """The method."""

    lam: float = Field(1.0, gt=0.0, le=100.0)
    """lambda, the weight inside the uniformity (correlation) term."""

    mu: float = Field(1.0, gt=0.0, le=10.0)
    """mu, added to the diagonal of every covariance before its logarithm."""

    gamma: float = Field(1.0, ge=0.0, le=1000.0)
    """gamma, the weight of the alignment term."""

    order: int = Field(4, ge=1, le=32)
    """K, terms of the Taylor series of the matrix logarithm."""

    logarithm: Literal["taylor", "exact"] = "taylor"
    """`taylor`: the authors' series. `exact`: the matrix logarithm itself (`order` is then not used)."""

    momentum: Momentum = 0.996
    """EMA momentum of the teacher at the start, rising to 1 along half a cosine over the horizon."""

    projector: HeadConfig = HeadConfig(layers=3, out=2048, last_bn="plain")
    """From features to embeddings; its width is that of the features unless given."""

    predictor: HeadConfig = HeadConfig(layers=2, width=512)
    """From embeddings to the prediction of the teacher's."""


class Method(base.Method):
    """A student that predicts, from one view, the embedding its momentum teacher gives the other view.

    Source: arXiv 2305.17326, section 4; encoder, teacher and schedules are MEC's (arXiv 2210.11464).
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        dimension = config.projector.out_features(backbone.features)
        self.predictor = build_head(config.predictor, dimension)
        self.teacher = MomentumTeacher(nn.Sequential(self.backbone, self.projector))
        self._warned = False
        self.base_momentum = base.resolve_momentum(config.momentum, plan)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two views, each (N_local, C, H, W)."""
        teacher = [gather(self.teacher(view)) for view in views]
        student = [gather(self.predictor(self.projector(self.backbone(view)))) for view in views]
        config = self.config
        taylor = config.logarithm == "taylor"
        loss = matrix_ssl_loss(
            teacher,
            student,
            lam=config.lam,
            mu=config.mu,
            gamma=config.gamma,
            order=config.order if taylor else None,
            # The radius costs as much as the loss, so it is looked at once an epoch.
            with_radius=taylor and step.index % step.plan.steps_per_epoch == 0,
        )
        parts = {"correlation": loss.correlation, "alignment": loss.alignment}
        if loss.radius is not None:
            parts["taylor_radius"] = loss.radius
            self._warn_outside(float(loss.radius))
        return LossReport(loss.total, parts, student[0].detach())

    def _warn_outside(self, radius: float) -> None:
        """Say once that the Taylor series does not converge to the logarithm."""
        if radius >= 1.0 and not self._warned:
            self._warned = True
            _log.warning(
                "matrix_ssl: |eigenvalue of Q - I| is %.3g, where the Taylor series of the logarithm does "
                "not converge; move method.mu towards 0.5 or use method.logarithm=exact",
                radius,
            )

    def after_step(self, step: Step) -> dict[str, float]:
        """Move the teacher after the student."""
        momentum = base.cosine_momentum(self.base_momentum, step.progress)
        self.teacher.update(momentum)
        return {"momentum": momentum}

    def describe(self) -> list[str]:
        """Return the teacher's resolved momentum."""
        return [f"teacher momentum {self.base_momentum:g}, rising to 1 over the horizon"]
