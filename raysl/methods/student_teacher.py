"""A student that predicts its momentum teacher's embeddings: the networks of BYOL, MEC and Matrix-SSL."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor, nn

from raysl.methods import base
from raysl.methods.base import Momentum, Plan, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.momentum import MomentumTeacher
from raysl.models.parallel import gather

_log = logging.getLogger("raysl")


class StudentTeacherConfig(base.MethodConfig):
    """Hyperparameters of the networks, with the values of MEC and Matrix-SSL."""

    momentum: Momentum = 0.996
    """EMA momentum of the teacher at the start, rising to 1 along half a cosine over the horizon."""

    projector: HeadConfig = HeadConfig(layers=3, out=2048, last_bn="plain")
    """From features to embeddings; its width is that of the features unless given."""

    predictor: HeadConfig = HeadConfig(layers=2, width=512)
    """From embeddings to the prediction of the teacher's."""


class StudentTeacher(base.Method):
    """A student, a predictor behind it, and a teacher that follows the student after each optimizer step.

    The teacher starts as a copy of the student and keeps batch statistics of its own. Every view is a batch
    of its own in either network.
    """

    def __init__(self, config: StudentTeacherConfig, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        self.dimension = config.projector.out_features(backbone.features)
        self.predictor = build_head(config.predictor, self.dimension)
        self.teacher = MomentumTeacher(nn.Sequential(self.backbone, self.projector))
        self.base_momentum = base.resolve_momentum(config.momentum, plan)

    def embed(self, views: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the teacher's embeddings of each view and the student's predictions, of the global batch."""
        teacher = [gather(self.teacher(view)) for view in views]
        student = [gather(self.predictor(self.projector(self.backbone(view)))) for view in views]
        return teacher, student

    def momentum_at(self, step: Step) -> float:
        """Return the teacher's momentum after a step."""
        return base.cosine_momentum(self.base_momentum, step.progress)

    def after_step(self, step: Step) -> dict[str, float]:
        """Move the teacher after the student."""
        momentum = self.momentum_at(step)
        self.teacher.update(momentum)
        return {"momentum": momentum}

    def describe(self) -> list[str]:
        """Return the teacher's resolved momentum."""
        return [f"teacher momentum {self.base_momentum:g}, rising to 1 over the horizon"]


class TaylorWatch:
    """Says once that a Taylor series is used where it does not converge.

    Args:
        warning: what is said then, with a `%.3g` for the radius.
    """

    def __init__(self, warning: str) -> None:
        self._warning: str | None = warning

    def __call__(self, radius: Tensor | None) -> dict[str, Tensor]:
        """Return what to log: the radius, if it was computed."""
        if radius is None:
            return {}
        if self._warning is not None and float(radius) >= 1.0:
            _log.warning(self._warning, float(radius))
            self._warning = None
        return {"taylor_radius": radius}
