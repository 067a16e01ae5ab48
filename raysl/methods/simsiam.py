"""SimSiam: predict the other view's embedding, held fixed, without a teacher (arXiv 2011.10566)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from raysl.losses.asymmetric import simsiam_loss
from raysl.methods import base
from raysl.methods.base import LossReport, Plan, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather


class Config(base.MethodConfig):
    """Hyperparameters of SimSiam."""

    name: Literal["simsiam"] = "simsiam"
    """The method."""

    predictor_lr: Literal["constant", "scheduled"] = "constant"
    """`constant`: the predictor stays at the peak learning rate, as in the paper; `scheduled`: it follows the
    schedule as the rest does."""

    projector: HeadConfig = HeadConfig(layers=3, width=2048, out=2048, last_bn="plain")
    """From features to embeddings."""

    predictor: HeadConfig = HeadConfig(layers=2, width=512)
    """From embeddings to the prediction of the other view's; narrower than they are."""

    views_required: ClassVar[tuple[int, int | None]] = (2, None)
    """Two views, as in the paper, or more; the loss is the mean over pairs of views."""

    micro_batch_loss: ClassVar[str | None] = (
        "the loss is a mean over images, so that of micro-batches is the whole batch's; "
        "batch normalisation alone sees fewer images"
    )


class Method(base.Method):
    """One network, a predictor behind it, and a gradient that stops at what is predicted.

    Source: arXiv 2011.10566, section 3 and its algorithm 1.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        self.predictor = build_head(config.predictor, config.projector.out_features(backbone.features))

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of two or more views, each (N_local, C, H, W)."""
        local = [self.projector(self.backbone(view)) for view in views]
        predictions = [gather(self.predictor(embeddings)) for embeddings in local]
        embeddings = [gather(embeddings.detach()) for embeddings in local]
        return LossReport(simsiam_loss(predictions, embeddings), {}, embeddings[0])

    def fixed_lr_modules(self) -> list[nn.Module]:
        """Return the predictor, unless it is to follow the schedule."""
        return [self.predictor] if self.config.predictor_lr == "constant" else []
