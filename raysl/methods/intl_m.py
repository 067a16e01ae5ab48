"""INTL-M: INTL whose first view is seen by a momentum network, for views of many sizes (arXiv 2305.16789)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from raysl.losses.intl import intl_m_loss
from raysl.methods import base, intl
from raysl.methods.base import LossReport, Momentum, Plan, Step
from raysl.methods.intl import IntlConfig, parts_of
from raysl.models.backbones import Backbone
from raysl.models.momentum import MomentumTeacher
from raysl.models.parallel import gather


class Config(IntlConfig):
    """Hyperparameters of INTL-M. The first view is the key's, the others are queries."""

    name: Literal["intl_m"] = "intl_m"
    """The method."""

    momentum: Momentum = 0.996
    """EMA momentum of the key network at the start, rising to 1 along half a cosine over the horizon."""


class Method(intl.Method):
    """Queries of all views but the first, compared with the key of the first by a slow copy of the encoder.

    Only the copy sees the first view. It follows before the forward pass, not after the optimizer's step.

    Source: arXiv 2305.16789; the authors' `INTL_M`.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__(config, backbone, plan)
        self.teacher = MomentumTeacher(nn.Sequential(self.backbone, self.projector))
        self.base_momentum = base.resolve_momentum(config.momentum, plan)

    def before_step(self, step: Step) -> dict[str, float]:
        """Move the key network towards the queries' before it is used."""
        momentum = base.cosine_momentum(self.base_momentum, step.progress)
        self.teacher.update(momentum)
        return {"momentum": momentum}

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W) of its own height and width."""
        queries = [gather(self.projector(self.backbone(view))) for view in views[1:]]
        loss = intl_m_loss(
            gather(self.teacher(views[0])),
            queries,
            beta=self.beta,
            axis=self.config.axis,
            iterations=self.config.iterations,
            # Eigenvalues cost more than the whitening, so they are looked at once an epoch.
            with_condition=step.starts_epoch,
        )
        return LossReport(loss.total, parts_of(loss), queries[0].detach())

    def describe(self) -> list[str]:
        """Return the resolved beta and the key network's momentum."""
        told = f"key network momentum {self.base_momentum:g}, rising to 1 over the horizon"
        return [*super().describe(), told]
