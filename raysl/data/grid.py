"""A picture of images and the views made from them, for people to look at."""

from __future__ import annotations

import numpy as np
import torch

from raysl.data.decoded import Decoded, Images
from raysl.data.views import ViewPipeline

_GAP = 2


def views_grid(data: Decoded, views: ViewPipeline, rows: int = 8, seed: int = 0, epoch: int = 0) -> Images:
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
    images = torch.from_numpy(data.images[:rows].copy())
    columns = [views.plain(images), *views(images, data.ids[:rows], seed=seed, epoch=epoch)]
    mean = torch.tensor(views.normalization.mean).view(1, -1, 1, 1)
    std = torch.tensor(views.normalization.std).view(1, -1, 1, 1)
    tiles = [(column * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8).numpy() for column in columns]
    height = max(tile.shape[2] for tile in tiles) + _GAP
    width = sum(tile.shape[3] + _GAP for tile in tiles) - _GAP
    picture = np.full((len(images) * height - _GAP, width, 3), 255, np.uint8)
    left = 0
    for tile in tiles:
        tall, wide = tile.shape[2:]
        for row, image in enumerate(tile):
            picture[row * height : row * height + tall, left : left + wide] = image.transpose(1, 2, 0)
        left += wide + _GAP
    return picture
