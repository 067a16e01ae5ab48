"""What larger images and another data set mean for views, normalisation and the backbone."""

from __future__ import annotations

from collections.abc import Iterator

from raysl.methods.base import Change
from raysl.train.config import RunConfig

_DIGITS = ("digits", 8)
_ASKED = "asked for"
_MADE_FOR = {"small_cnn": 8, "resnet10_narrow": 32}
_SMALL = 64
"""Largest side for which a stem of small images is meant, in pixels."""


def known_size(config: RunConfig) -> int | None:
    """Return the side of the first view; None where it is that of stored images of unknown size."""
    stored = _DIGITS[1] if config.data.source == _DIGITS[0] else None
    return config.views.sizes()[0] or config.data.image_size or stored


def image_sizes(config: RunConfig, wanted: int | None) -> tuple[int, int]:
    """Return the side of the first view before and after; equal where either is not known."""
    old = known_size(config)
    new = wanted or old or 1
    return old or new, new


def size_changes(config: RunConfig, wanted: int | None, source: str | None) -> Iterator[Change]:
    """Yield what becomes of views, stored images and backbone where views get another size.

    Args:
        config: the small run.
        wanted: side of the first view in pixels; None keeps it.
        source: the big run's data, where it has other data.
    """
    old = known_size(config)
    if wanted is None or wanted == old:
        return
    views, data = config.views, config.data
    if old is None:
        yield Change("views.size", None, wanted, "unsafe", f"{_ASKED}; what it was is not known here")
    else:
        yield from _views(config, old, wanted)
    if data.image_size is not None and old is not None:
        why = "the stored image stays as much larger than the view"
        yield Change(
            "data.image_size", data.image_size, _scaled(data.image_size, old, wanted), "rescaled", why
        )
    elif data.image_size is None and source is None:
        why = "images are stored as they are; views larger than that are enlarged and show nothing new"
        yield Change("data.image_size", None, None, "unsafe", why)
    if views.crop is not None:
        scale = config.to_dict()["views"]["crop"]["scale"]
        yield Change("views.crop.scale", scale, scale, "transferred", "shares of the image's area")
    if views.blur is not None:
        yield from _blur(config, old, wanted)
    yield from _backbone(config, wanted)


def _views(config: RunConfig, old: int, wanted: int) -> Iterator[Change]:
    views = config.views
    if isinstance(views.size, tuple):
        sizes = [_scaled(size, old, wanted) for size in views.size]
        why = f"{_ASKED}; the other views in proportion"
        yield Change("views.size", list(views.size), sizes, "rescaled", why)
    else:
        yield Change("views.size", views.size, wanted, "rescaled", _ASKED)
    for name in ("resize", "crop"):
        side = getattr(views.evaluation, name)
        if side is not None:
            new = _scaled(side, old, wanted)
            yield Change(f"views.evaluation.{name}", side, new, "rescaled", "in proportion to the view")
    if views.shift is not None:
        pixels = max(1, _scaled(views.shift.pixels, old, wanted))
        yield Change(
            "views.shift.pixels", views.shift.pixels, pixels, "rescaled", "in proportion to the view"
        )


def _blur(config: RunConfig, old: int | None, wanted: int) -> Iterator[Change]:
    blur = config.views.blur
    if blur is None:
        return
    if blur.kernel is None:
        if old is not None:
            widths = [max(3, 2 * int(0.05 * side) + 1) for side in (old, wanted)]
            yield Change("blur kernel", widths[0], widths[1], "rescaled", "a tenth of the view", derived=True)
    elif old is not None:
        kernel = max(3, _scaled(blur.kernel, old, wanted) // 2 * 2 + 1)
        yield Change(
            "views.blur.kernel", blur.kernel, kernel, "rescaled", "in proportion to the view, and odd"
        )
    sigma = list(blur.sigma)
    why = "pixels; published recipes keep it at every size, in proportion to the view it would change"
    yield Change("views.blur.sigma", sigma, sigma, "unsafe", why)


def _backbone(config: RunConfig, wanted: int) -> Iterator[Change]:
    backbone = config.backbone
    name, stem = backbone.name, backbone.stem
    made_for = _MADE_FOR.get(name)
    if made_for is not None and wanted > 2 * made_for:
        why = f"made for about {made_for} pixels, not {wanted}; another one needs a search of its own"
        yield Change("backbone.name", name, name, "unsafe", why)
    elif stem.startswith("cifar") and wanted > _SMALL:
        why = f"made for about 32 pixels: at {wanted} it takes 16 times imagenet's memory, another network"
        yield Change("backbone.stem", stem, stem, "unsafe", why)
    elif name.startswith("resnet") and made_for is None and not stem.startswith("cifar") and wanted <= _SMALL:
        why = f"it shrinks {wanted} pixels by 32; cifar keeps more, and is another network"
        yield Change("backbone.stem", stem, stem, "unsafe", why)
    elif "vit" in name:
        why = "its tokens and position embeddings follow the size, so it is another network"
        yield Change("backbone.name", name, name, "unsafe", why)
    else:
        yield Change("backbone.name", name, name, "transferred", "convolutions and pooling take any size")


def data_changes(config: RunConfig, source: str | None, size: int | None) -> Iterator[Change]:
    """Yield what becomes of the data's own settings where the run gets another set.

    Args:
        config: the small run.
        source: the other set; None keeps the one there is.
        size: side of the first view in pixels, where it is another.
    """
    data, bank = config.data, config.diagnostics.knn_bank
    if source is None or source == data.source:
        why = "as many images to vote as before, so eval/knn_top1 stays comparable"
        yield Change("diagnostics.knn_bank", bank, bank, "transferred", why)
        return
    why = f"{_ASKED}; nothing says that values found on {data.source} are good ones there"
    yield Change("data.source", data.source, source, "unsafe", why)
    for name in ("mean", "std"):
        values = getattr(data, name)
        if values is not None:
            why = "it was the old set's; computed from the new one's images"
            yield Change(f"data.{name}", list(values), None, "rescaled", why)
    if data.image_size is None and size is not None:
        why = "the new set's images may differ in size; each is brought to this"
        yield Change("data.image_size", None, size, "rescaled", why)
    elif data.image_size is None:
        why = "images are stored as they are, which only works where the new set's have one size"
        yield Change("data.image_size", None, None, "unsafe", why)
    if data.test is not None:
        yield Change("data.test", data.test, None, "rescaled", "it was the old set's test split")
    for name, usual in (("image_column", "image"), ("label_column", "label"), ("channels", None)):
        value = getattr(data, name)
        if value != usual:
            yield Change(f"data.{name}", value, value, "unsafe", "look whether the new set has it so")
    why = "with other classes and more images eval/knn_top1 is not comparable with the search's"
    yield Change("diagnostics.knn_bank", bank, bank, "unsafe", why)


def _scaled(pixels: int, old: int, new: int) -> int:
    return round(pixels * new / old)
