"""Pictures of images and the views made from them, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from raysl.data.config import ViewsConfig
from raysl.data.decoded import Images, Normalization
from raysl.data.encoded import Training
from raysl.data.sample import Picture
from raysl.data.views import ViewPipeline

_GAP = 2
_CAPTION = 14
# Smaller tiles are enlarged by whole factors, so that their pixels can be seen.
_LEGIBLE = 96
# The longest shape an image is drawn in; beyond it is scaled down.
_WIDEST = 2


def views_grid(data: Training, views: ViewPipeline, rows: int = 8, seed: int = 0, epoch: int = 0) -> Images:
    """Draw the first images, one to a row: the image as the model is shown it in evaluation, then its views.

    Args:
        data: where the images come from.
        views: makes the views.
        rows: images to draw.
        seed: the run's seed.
        epoch: which epoch's views.

    Returns:
        (H, W, 3) uint8 picture.
    """
    first = data.rows(np.arange(min(rows, len(data))))
    images = torch.from_numpy(first.images)
    columns = [views.plain(images), *views(images, first.ids, seed=seed, epoch=epoch)]
    tiles = [_pixels(column, views.normalization) for column in columns]
    return _arranged([list(row) for row in zip(*tiles, strict=True)])


def recipe_grid(
    pictures: Sequence[Picture], config: ViewsConfig, plain_views: int = 0, seed: int = 0
) -> Images:
    """Draw images of any sizes, one to a row: the image, the un-augmented view if any, and its views.

    Args:
        pictures: the images, each of a size of its own.
        config: makes the views.
        plain_views: un-augmented views that the method asks for; one is drawn, as they are all the same.
        seed: the run's seed; the views are those of its first epoch.

    Returns:
        (H, W, 3) uint8 picture with a line of captions.

    Raises:
        InputError: the views cannot be made from images of such a size.
    """
    rows, captions = [], ["image"]
    for picture in pictures:
        channels, *stored = picture.pixels.shape
        # Subtracting nothing: what is drawn are colours, not the network's input.
        normalization = Normalization((0.0,) * channels, (1.0,) * channels)
        views = ViewPipeline(config, normalization, (stored[0], stored[1]))
        image = torch.from_numpy(picture.pixels[None].copy())
        made = [views.plain(image)] * min(plain_views, 1)
        made += views(image, np.array([picture.id], np.uint64), seed=seed, epoch=0)
        tiles = [_pixels(view, normalization)[0] for view in made]
        rows.append([_fitted(picture.pixels, max(tile.shape[1] for tile in tiles)), *tiles])
    captions += ["plain"] * min(plain_views, 1) + [f"view {number + 1}" for number in range(config.count)]
    zoom = max(1, _LEGIBLE // max(tile.shape[1] for row in rows for tile in row))
    rows = [[tile.repeat(zoom, axis=1).repeat(zoom, axis=2) for tile in row] for row in rows]
    return _captioned(_arranged(rows), captions, _lefts(rows))


def _pixels(views: Tensor, normalization: Normalization) -> Images:
    """Return normalised (N, C, H, W) views as uint8 pixels."""
    mean = torch.tensor(normalization.mean).view(1, -1, 1, 1)
    std = torch.tensor(normalization.std).view(1, -1, 1, 1)
    pixels: Images = (views * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return pixels


def _fitted(pixels: Images, tall: int) -> Images:
    """Return a (C, H, W) image scaled to a height, or to the greatest width if that is less."""
    channels, height, width = pixels.shape
    scale = min(tall / height, _WIDEST * tall / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return pixels
    image = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
    scaled = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    return scaled[None] if channels == 1 else scaled.transpose(2, 0, 1)


def _lefts(rows: Sequence[Sequence[Images]]) -> list[int]:
    """Return where each column begins, and at the end the width of all."""
    widths = [max(tile.shape[2] for tile in column) + _GAP for column in zip(*rows, strict=True)]
    return [0, *(int(end) for end in np.cumsum(widths))]


def _arranged(rows: Sequence[Sequence[Images]]) -> Images:
    """Return (C, H, W) tiles as one white (H, W, 3) picture, aligned to the top left of their cells."""
    height = max(tile.shape[1] for row in rows for tile in row) + _GAP
    lefts = _lefts(rows)
    picture = np.full((len(rows) * height - _GAP, lefts[-1] - _GAP, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        for tile, left in zip(row, lefts, strict=False):
            _, tall, wide = tile.shape
            picture[number * height : number * height + tall, left : left + wide] = tile.transpose(1, 2, 0)
    return picture


def _captioned(picture: Images, captions: Sequence[str], lefts: Sequence[int]) -> Images:
    whole = Image.new("RGB", (picture.shape[1], picture.shape[0] + _CAPTION), "white")
    whole.paste(Image.fromarray(picture), (0, _CAPTION))
    pen = ImageDraw.Draw(whole)
    for caption, left in zip(captions, lefts, strict=False):
        pen.text((left, 0), caption, fill="black")
    return np.asarray(whole)
