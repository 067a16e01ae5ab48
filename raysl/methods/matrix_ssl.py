"""Matrix-SSL: uniformity and alignment of covariance matrices by matrix cross-entropy (arXiv 2305.17326)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from raysl.losses.matrix_ssl import matrix_ssl_loss
from raysl.methods.base import LossReport, Plan, Step
from raysl.methods.student_teacher import StudentTeacher, StudentTeacherConfig, TaylorWatch
from raysl.models.backbones import Backbone


class Config(StudentTeacherConfig):
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


class Method(StudentTeacher):
    """A student that predicts, from one view, the embedding its momentum teacher gives the other view.

    Source: arXiv 2305.17326, section 4; encoder, teacher and schedules are MEC's (arXiv 2210.11464).
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__(config, backbone, plan)
        self.config = config
        self._watch = TaylorWatch(
            "matrix_ssl: |eigenvalue of Q - I| is %.3g, where the Taylor series of the logarithm does not "
            "converge; move method.mu towards 0.5 or use method.logarithm=exact"
        )

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two views, each (N_local, C, H, W)."""
        teacher, student = self.embed(views)
        config = self.config
        taylor = config.logarithm == "taylor"
        loss = matrix_ssl_loss(
            teacher,
            student,
            lam=config.lam,
            mu=config.mu,
            gamma=config.gamma,
            order=config.order if taylor else None,
            with_radius=taylor and step.starts_epoch,
        )
        parts = {"correlation": loss.correlation, "alignment": loss.alignment, **self._watch(loss.radius)}
        return LossReport(loss.total, parts, student[0].detach())
