"""BYOL: predict the embedding that a slow copy of the network gives another view (arXiv 2006.07733)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor

from raysl.losses.asymmetric import byol_loss
from raysl.methods.base import LossReport, Momentum, Plan, Step
from raysl.methods.student_teacher import StudentTeacher, StudentTeacherConfig
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig


class Config(StudentTeacherConfig):
    """Hyperparameters of BYOL, with the values of the W-MSE authors."""

    name: Literal["byol"] = "byol"
    """The method."""

    momentum: Momentum = 0.99
    """tau, the EMA momentum of the target network at the start, rising to 1 along half a cosine over the
    horizon; it is constant within an epoch."""

    normalize: bool = True
    """Compare directions (cosine); false compares raw embeddings by their mean squared error."""

    projector: HeadConfig = HeadConfig(layers=2, width=1024, out=64)
    """From features to embeddings."""

    predictor: HeadConfig = HeadConfig(layers=2, width=1024)
    """From embeddings to the prediction of the target network's."""

    views_required: ClassVar[tuple[int, int | None]] = (2, None)
    """Two views or more; the loss is the mean over pairs of views, both directions summed."""

    micro_batch_loss: ClassVar[str | None] = (
        "the loss is a mean over images, so that of micro-batches is the whole batch's; "
        "batch normalisation alone sees fewer images"
    )


class Method(StudentTeacher):
    """An online network with a predictor, and a target network that follows it.

    Source: arXiv 2006.07733, section 3; arXiv 2007.06346 for the heads, and for a momentum that changes once
    an epoch.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__(config, backbone, plan)
        self.config = config

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W)."""
        targets, predictions = self.embed(views)
        loss = byol_loss(predictions, targets, normalize=self.config.normalize)
        return LossReport(loss, {}, predictions[0].detach())

    def momentum_at(self, step: Step) -> float:
        """Return the target network's momentum, that of the epoch's first step."""
        first = step.index - step.index % step.plan.steps_per_epoch
        return super().momentum_at(replace(step, index=first))

    def describe(self) -> list[str]:
        """Return the target network's resolved momentum."""
        return [f"target momentum {self.base_momentum:g}, rising to 1 over the horizon, once an epoch"]
