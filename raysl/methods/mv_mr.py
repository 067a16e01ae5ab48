"""MV-MR: an embedding that depends on several fixed representations of its image (Kinakh et al.)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from raysl.errors import InputError
from raysl.losses.mv_mr import MVMRLoss, mv_mr_loss
from raysl.methods import base
from raysl.methods.base import Change, LossReport, Plan, Scaling, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather
from raysl.models.representations import Representation, RepresentationOptions, of_augmented, represent

_log = logging.getLogger("raysl")


class EmbeddingConfig(base.MethodConfig):
    """What MV-MR and its distillation share: everything about the two embeddings."""

    margin: float = Field(1.0, ge=0.0, le=100.0)
    """Standard deviation over the batch that every component of an embedding should have at least."""

    scale: float = Field(1 / 32, gt=0.0, le=1000.0)
    """What embeddings are multiplied by before their distances are taken: distance correlation knows no
    scale, but distances below 0.01 count as 0.01."""

    mse_weight: float = Field(1.0, ge=0.0, le=1000.0)
    """Weight of the mean squared difference of the two embeddings."""

    std_weight: float = Field(1.0, ge=0.0, le=1000.0)
    """Weight of the standard deviations' shortfall below the margin."""

    views_weight: float = Field(1.0, ge=0.0, le=1000.0)
    """Weight of the dependence between the two embeddings."""

    normalize_z: bool = False
    """Scale every embedding to length one first; the largest margin that can be met is then about
    1 / sqrt(its size)."""

    projector: HeadConfig = HeadConfig(layers=3, width=8192, out=8192, bias=False)
    """From features to embeddings."""

    plain_views: ClassVar[int] = 1
    """The image as it is comes first."""

    micro_batch_loss: ClassVar[str | None] = (
        "each micro-batch has distances and standard deviations of its own, as its authors trained"
    )

    def rescale(self, scaling: Scaling) -> list[Change]:
        """Keep the weight of distance correlations, which are too large in a small batch."""
        noise = "what chance adds to the distance correlation of a batch"
        kept = base.kept_weight("method.views_weight", self.views_weight, scaling, noise)
        return [*super().rescale(scaling), *kept]


class Config(EmbeddingConfig):
    """Hyperparameters of MV-MR."""

    name: Literal["mv_mr"] = "mv_mr"
    """The method."""

    representations: tuple[Representation, ...] = Field(
        ("pixels", "scattering", "augmented", "hog", "local_std"), min_length=1
    )
    """Representations that the embedding of a view is to depend on, of the image as it is; those named
    `augmented...` are of a further view, so that they need `views.count: 2`."""

    options: RepresentationOptions = RepresentationOptions()
    """Sizes of the representations."""

    representations_weight: float = Field(1.0, ge=0.0, le=1000.0)
    """Weight of the dependence on each representation."""

    reference_exact: bool = False
    """As the authors' code: the dependence on representations is minimised, not maximised; the upper bin of a
    gradient histogram gets 1 - magnitude; distance correlation is NaN at collapse."""

    views_required: ClassVar[tuple[int, int | None]] = (2, 2)
    """Beside the image as it is: a view to embed and one for the representations named `augmented...`."""

    def views_taken(self) -> tuple[int, int | None]:
        """Return one view, and one more where a representation is of an augmented image."""
        count = 1 + any(of_augmented(name) for name in self.representations)
        return (count, count)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.representations)) < len(self.representations):
            raise ValueError(f"representations has one twice: {', '.join(self.representations)}")
        return self


class Method(base.Method):
    """One encoder for the image as it is and for a view of it.

    Either is a batch of its own in backbone and projector. Representations are of the pixels as the backbone
    sees them, normalised, and of the global batch.

    Source: Kinakh et al., MV-MR, section 3, and the authors' `SelfSupervisedModule`. There the augmented
    image of a representation comes from one draw for the whole batch, which jitters normalised pixels; here
    it is a view like the others.
    """

    def __init__(self, config: Config, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = build_head(config.projector, backbone.features)
        self._floor = FloorWatch(config.name)
        self.sizes = self._sizes(plan.image_size)

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Return the loss of the image, its view and, for some representations, another view."""
        plain, view, *further = views
        z_nd = gather(self.projector(self.backbone(view)))
        z_o_nd = gather(self.projector(self.backbone(plain)))

        def representations() -> Iterator[tuple[str, Tensor]]:
            # One by one, so that only distances outlive it.
            for name in self.config.representations:
                yield name, gather(self._represent(name, further[0] if of_augmented(name) else plain))

        config = self.config
        loss = embedding_loss(
            config,
            z_o_nd,
            z_nd,
            representations(),
            weight=config.representations_weight,
            maximize=not config.reference_exact,
            reference_exact=config.reference_exact,
        )
        return report(loss, z_nd, self._floor, step)

    def describe(self) -> list[str]:
        """Return the sizes of the representations."""
        told = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        return [f"representations, values of an image: {told}"] if told else []

    def _represent(self, name: Representation, images: Tensor) -> Tensor:
        return represent(
            name, images, self.config.options, reference_exact=self.config.reference_exact
        ).contiguous()

    def _sizes(self, image_size: tuple[int, int] | None) -> dict[str, int]:
        """Return the size of each representation, which also tells that the images are large enough."""
        if image_size is None:
            return {}
        image = torch.zeros(1, self.backbone.image_channels, *image_size)
        try:
            return {name: self._represent(name, image).shape[1] for name in self.config.representations}
        except InputError as error:
            raise InputError(f"method.representations: {error}") from None


class FloorWatch:
    """Says once, looking once an epoch, that all embeddings are too near for distance correlation.

    Args:
        name: of the method.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._warned = False

    def look(self, at_floor: Tensor, step: Step) -> None:
        """Look at the share of pairs at the least distance."""
        if self._warned or not step.starts_epoch or float(at_floor) < 1.0:
            return
        self._warned = True
        _log.warning(
            "%s: every pair of embeddings is nearer than 0.01 after method.scale, so that distance "
            "correlation is 0 without a gradient: they have collapsed, or method.scale is too small",
            self._name,
        )


def embedding_loss(
    config: EmbeddingConfig,
    z_o_nd: Tensor,
    z_nd: Tensor,
    representations: Iterable[tuple[str, Tensor]],
    *,
    weight: float,
    maximize: bool = True,
    reference_exact: bool = False,
) -> MVMRLoss:
    """Return the loss with a config's margin, scale and weights; see `mv_mr_loss`."""
    return mv_mr_loss(
        z_o_nd,
        z_nd,
        representations,
        margin=config.margin,
        scale=config.scale,
        mse_weight=config.mse_weight,
        std_weight=config.std_weight,
        views_weight=config.views_weight,
        representations_weight=weight,
        normalize=config.normalize_z,
        maximize=maximize,
        reference_exact=reference_exact,
    )


def report(loss: MVMRLoss, z_nd: Tensor, floor: FloorWatch, step: Step) -> LossReport:
    """Return a step's report: dCor with everything, the other terms, and pairs at the least distance."""
    floor.look(loss.at_floor, step)
    parts = {"mse": loss.mse, "std_shortfall": loss.std, "dcor_views": 1 - loss.views}
    parts |= {f"dcor_{name}": dcor for name, dcor in loss.representations.items()}
    return LossReport(loss.total, {**parts, "at_floor": loss.at_floor}, z_nd.detach())
