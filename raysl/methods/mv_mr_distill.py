"""MV-MR distillation: an embedding that depends on a frozen teacher's of the image (Kinakh et al.)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from raysl.methods import base
from raysl.methods.base import LossReport, Plan, Step
from raysl.methods.mv_mr import EmbeddingConfig, FloorWatch, embedding_loss, report
from raysl.models.backbones import Backbone
from raysl.models.heads import build_head
from raysl.models.parallel import gather
from raysl.models.teachers import TeacherConfig, build_teacher


class Config(EmbeddingConfig):
    """Hyperparameters of MV-MR distillation."""

    name: Literal["mv_mr_distill"] = "mv_mr_distill"
    """The method."""

    teacher: TeacherConfig = TeacherConfig()
    """The frozen network; by default the CLIP image encoder of the authors."""

    teacher_weight: float = Field(1.0, ge=0.0, le=1000.0)
    """Weight of the dependence on the teacher."""

    reference_exact: bool = False
    """As the authors' code: the teacher sees images normalised as the student does, not as it was trained;
    distance correlation is NaN at collapse."""

    views_required: ClassVar[tuple[int, int | None]] = (1, 1)
    """Beside the image as it is: a view of it."""


class Method(base.Method):
    """One encoder for the image and for a view of it, and a teacher that sees the image.

    The teacher's features, like the embeddings, are multiplied by `scale`. Its weights are no part of the
    method: no optimizer moves them and no checkpoint holds them.

    Source: the authors' `CLIPSelfSupervisedModule`.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        self._floor = FloorWatch(config.name)
        shown = None if plan.pixels is None else (plan.pixels.mean, plan.pixels.std)
        self.teacher = build_teacher(
            config.teacher, backbone.image_channels, shown, as_shown=config.reference_exact
        )

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of the image and its view, each (N_local, C, H, W)."""
        plain, view = views
        z_nd = gather(self.projector(self.backbone(view)))
        z_o_nd = gather(self.projector(self.backbone(plain)))
        teacher_nd = gather(self.teacher(plain) * self.config.scale)
        loss = embedding_loss(
            self.config,
            z_o_nd,
            z_nd,
            [("teacher", teacher_nd)],
            weight=self.config.teacher_weight,
            reference_exact=self.config.reference_exact,
        )
        return report(loss, z_nd, self._floor, step)
