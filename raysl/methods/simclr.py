"""SimCLR: contrast the two views of an image against every other image of the batch (arXiv 2002.05709)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from raysl.losses.contrastive import nt_xent_loss
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class Config(base.MethodConfig):
    """Hyperparameters of SimCLR."""

    name: Literal["simclr"] = "simclr"
    """The method."""

    temperature: float = Field(0.5, gt=0.0, le=10.0)
    """tau, what the similarities are divided by."""

    normalize: bool = True
    """Compare directions (cosine); false compares raw embeddings."""

    projector: HeadConfig = HeadConfig(layers=2, width=1024, out=64, last_bn="affine")
    """From features to embeddings; its batch normalisations see the views of a batch together."""

    views_required: ClassVar[tuple[int, int | None]] = (2, None)
    """Two views or more; the loss is the mean over pairs of views."""

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Name the temperature, for which no rule is known where an image has more negatives."""
        before, after = scaling.batch_size
        if before == after:
            return super().rescale(scaling)
        why = (
            f"it weighs the {2 * after - 2} negatives of an image, which were {2 * before - 2}; no rule is "
            "known, so search it once more"
        )
        kept = Change("method.temperature", self.temperature, self.temperature, "unsafe", why)
        return [*super().rescale(scaling), kept]


class Method(base.Method):
    """One encoder for all views.

    The backbone sees each view as a batch of its own and the projector all of them as one, as in the code of
    the W-MSE authors, against which this is checked.

    Source: arXiv 2002.05709, section 2; arXiv 2007.06346 for the projector.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W)."""
        features = torch.cat([self.backbone(view) for view in views])
        embeddings = [gather(part) for part in self.projector(features).chunk(len(views))]
        loss = nt_xent_loss(embeddings, temperature=self.config.temperature, normalize=self.config.normalize)
        return LossReport(loss, {}, embeddings[0].detach())
