"""The declarative form of views: which operations, with which parameters, in which order.

The order is part of a recipe: colouring before the crop takes the contrast from the whole image.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from raysl.config.base import Config
from raysl.data.presets import PRESETS

OpName = Literal["crop", "shift", "flip", "jitter", "grayscale", "blur", "solarize", "equalize"]
Interpolation = Literal["bilinear", "bicubic"]
Probability = Annotated[float, Field(ge=0, le=1)]
PerView = Probability | tuple[Probability, ...]
Positive = Annotated[float, Field(gt=0)]
Sigma = Annotated[float, Field(ge=0.01)]
Pixels = Annotated[int, Field(ge=4, le=4096)]
Share = Annotated[float, Field(gt=0, le=1)]
Range = tuple[Share, Share]


def _ranges_or_one(value: Any) -> str:
    """Tell one range from a list of ranges, so that a mistake in one is not blamed on the other."""
    first = value[0] if isinstance(value, list | tuple) and value else None
    return "range-each" if isinstance(first, list | tuple) else "range-one"


# The tags hold a hyphen, by which the loader of configs knows that they are no keys.
PerViewRange = Annotated[
    Annotated[Range, Tag("range-one")] | Annotated[tuple[Range, ...], Tag("range-each")],
    Discriminator(_ranges_or_one),
]


class OpConfig(Config):
    """An operation applied to each image of each view by a draw of its own."""

    p: PerView = 1.0
    """Probability that an image gets the operation; a list gives each view its own."""


class CropConfig(Config):
    """Random resized crop (torchvision's `RandomResizedCrop`); its size is `views.size`."""

    scale: PerViewRange = (0.2, 1.0)
    """Smallest and largest share of the image's area; a list of such pairs gives each view its own."""

    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Smallest and largest width over height, drawn on a logarithmic scale."""

    interpolation: Interpolation = "bilinear"
    """Filter that resizes the crop."""

    antialias: bool = True
    """Widen the filter when shrinking, as PIL always does."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        named: list[tuple[str, tuple[float, float]]] = [("scale", pair) for pair in self.scales()]
        for name, (low, high) in [*named, ("ratio", self.ratio)]:
            if low > high:
                raise ValueError(f"{name} is [smallest, largest], and {low} is above {high}")
        return self

    def scales(self) -> tuple[Range, ...]:
        """Return the ranges of area: one for all views, or one for each."""
        pairs = self.scale if isinstance(self.scale[0], tuple) else (self.scale,)
        return pairs

    def scale_of(self, view: int) -> Range:
        """Return a view's range of area."""
        scales = self.scales()
        return scales[view] if len(scales) > 1 else scales[0]


class ShiftConfig(OpConfig):
    """Translation by whole pixels, black outside; the same as padding by `pixels` and cropping at random."""

    pixels: int = Field(default=4, ge=1, le=512)
    """Largest shift in each direction."""


class FlipConfig(OpConfig):
    """Horizontal mirror."""

    p: PerView = 0.5
    """Probability of a mirrored image; a list gives each view its own."""


class JitterConfig(OpConfig):
    """Colour jitter (torchvision's `ColorJitter`): the changes come in a random order for each image.

    Each factor is uniform in [max(0, 1 - x), 1 + x], the hue shift in [-x, x]. Grey images have no saturation
    or hue.
    """

    p: PerView = 0.8
    """Probability that an image is jittered; a list gives each view its own."""

    brightness: float = Field(default=0.4, ge=0, le=4)
    """Strength of the brightness change."""

    contrast: float = Field(default=0.4, ge=0, le=4)
    """Strength of the contrast change."""

    saturation: float = Field(default=0.4, ge=0, le=4)
    """Strength of the saturation change."""

    hue: float = Field(default=0.1, ge=0, le=0.5)
    """Largest hue shift, in turns of the colour circle."""


class GrayscaleConfig(OpConfig):
    """Replace the colours by their luma, kept in three channels."""

    p: PerView = 0.2
    """Probability of a grey image; a list gives each view its own."""


class BlurConfig(OpConfig):
    """Gaussian blur with a standard deviation drawn for each image, borders reflected."""

    p: PerView = 0.5
    """Probability of a blurred image; a list gives each view its own."""

    sigma: tuple[Sigma, Sigma] = (0.1, 2.0)
    """Smallest and largest standard deviation, in pixels."""

    kernel: int | None = Field(default=None, ge=3, le=255)
    """Width of the kernel in pixels, odd. By default a tenth of the view: 2 floor(0.05 size) + 1, or 3."""

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.sigma[0] > self.sigma[1]:
            raise ValueError(f"sigma is [smallest, largest], and {self.sigma[0]} is above {self.sigma[1]}")
        if self.kernel is not None and self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd: use {self.kernel - 1} or {self.kernel + 1}")
        return self


class SolarizeConfig(OpConfig):
    """Invert every value at or above a threshold."""

    p: PerView = 0.2
    """Probability of a solarized image; a list gives each view its own."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Values from here on are inverted, on the scale 0-1."""


class EqualizeConfig(OpConfig):
    """Spread each channel's values so that every value is about as frequent (PIL's `ImageOps.equalize`)."""

    p: PerView = 0.1
    """Probability of an equalised image; a list gives each view its own."""


class EvaluationView(Config):
    """How an image is shown when nothing is drawn: short side to `resize`, then the centre `crop`."""

    resize: Pixels | None = None
    """Short side in pixels; by default `crop`, and without that the size of the first view."""

    crop: Pixels | None = None
    """Side of the centre square in pixels; by default the size of the first view."""

    interpolation: Interpolation = "bilinear"
    """Filter that resizes; always antialiased."""


class ViewsConfig(Config):
    """How views are made: `{preset: w_mse}`, a preset with some fields replaced, or fields alone."""

    preset: str = "none"
    """Where fields that are not given come from; `none` leaves the images as they are."""

    count: int = Field(default=2, ge=1, le=64)
    """Views of each image."""

    size: Pixels | tuple[Pixels, ...] | None = None
    """Side of a view in pixels; by default that of the stored images. A list gives each view its own
    (multi-crop), the first of which is the evaluation view's too."""

    order: tuple[OpName, ...] = (
        "crop",
        "shift",
        "flip",
        "jitter",
        "grayscale",
        "blur",
        "solarize",
        "equalize",
    )
    """Order of the operations; those that are off are passed over."""

    crop: CropConfig | None = None
    """Random resized crop, or null for none."""

    shift: ShiftConfig | None = None
    """Translation, or null for none."""

    flip: FlipConfig | None = None
    """Mirror, or null for none."""

    jitter: JitterConfig | None = None
    """Colour jitter, or null for none."""

    grayscale: GrayscaleConfig | None = None
    """Grayscale, or null for none."""

    blur: BlurConfig | None = None
    """Gaussian blur, or null for none."""

    solarize: SolarizeConfig | None = None
    """Solarization, or null for none."""

    equalize: EqualizeConfig | None = None
    """Histogram equalisation, or null for none."""

    colour: Literal["exact", "fused"] = "exact"
    """`exact`: torchvision's colour changes one after the other, each clamped. `fused`: one matrix for each
    image, which holds brightness, contrast, saturation, hue (a rotation about the grey axis), grayscale and
    normalisation, applied in one pass after the crop; crops are rounded to 8 bits, as PIL's are. Several
    times faster, and not the published arithmetic (docs/DATA.md, Views)."""

    evaluation: EvaluationView = EvaluationView()
    """The un-augmented view."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("preset", "none"), str):
            return given
        name = given.get("preset", "none")
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"no views preset '{name}' (there are {', '.join(PRESETS)}){hint}")
        return _merge(PRESETS[name], given)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.order)) < len(self.order):
            raise ValueError(f"order names an operation twice: {', '.join(self.order)}")
        lists: dict[str, Any] = {"size": self.size}
        for name, op in self._given().items():
            if name not in self.order:
                raise ValueError(f"{name} is on but missing from order: add it, or set {name}: null")
            lists[f"{name}.p"] = getattr(op, "p", None)
        for name, value in lists.items():
            if isinstance(value, tuple) and len(value) != self.count:
                raise ValueError(
                    f"{name} needs one value, or one for each of the {self.count} views, not {len(value)}"
                )
        scales = 1 if self.crop is None else len(self.crop.scales())
        if scales not in (1, self.count):
            raise ValueError(
                f"crop.scale needs one range, or one for each of the {self.count} views, not {scales}"
            )
        return self

    def sizes(self) -> tuple[int | None, ...]:
        """Return the side of each view in pixels; None is that of the stored images."""
        return self.size if isinstance(self.size, tuple) else (self.size,) * self.count

    def _given(self) -> dict[str, Config]:
        names = ("crop", "shift", "flip", "jitter", "grayscale", "blur", "solarize", "equalize")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def operations(self) -> list[tuple[str, Config]]:
        """Return the operations that are on, by name, in order."""
        given = self._given()
        return [(name, given[name]) for name in self.order if name in given]


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, dictionaries merged key by key; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Config):
            value = value.to_dict()
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
