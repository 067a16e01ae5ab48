"""Views on one core, against the authors' pipelines on PIL images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.data_case import Options, Row, in_turn, median_rate, median_ratio, recipe
from benchmarks.data_pil import as_pil, decoded_pil, pil_pipeline, pil_views
from benchmarks.data_ray import decoded_views
from raysl.data.config import ViewsConfig
from raysl.data.decoded import Normalization, content_id
from raysl.data.sample import sample_encoded, sample_pictures
from raysl.data.views import ViewPipeline

_IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BATCH = 512


def views32(options: Options) -> list[Row]:
    """Time the W-MSE recipe's views of decoded 32-pixel images: both views, normalised, as a batch."""
    torch.set_num_threads(1)
    count = options.images or 2 * _BATCH
    pictures = sample_pictures(recipe("cifar10/w_mse", options.small).data, count)
    images = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    ids = np.array([picture.id for picture in pictures], np.uint64)
    works: list[Callable[[], object]] = []
    for colour in ("exact", "fused"):
        views = ViewPipeline(_views("cifar10/w_mse", options.small, colour), _IMAGENET, (32, 32))

        def ours(views: ViewPipeline = views) -> object:
            batches = [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]
            return [views(images[rows], ids[rows], seed=0, epoch=0) for rows in batches]

        works.append(ours)
    config = _views("cifar10/w_mse", options.small, "exact")
    pipelines = [pil_pipeline(config, _IMAGENET, 32, view) for view in range(config.count)]
    # As torchvision's CIFAR10 does, each image is made a PIL image when it is asked for.
    works.append(lambda: pil_views([as_pil(picture.pixels) for picture in pictures], pipelines))
    return _rows("32 px, `w_mse`, whole pipeline, one core", works, config.count * count, options, (2.5, 6.0))


def views224(options: Options) -> list[Row]:
    """Time the MEC recipe's two views of JPEGs of natural size, decoding included."""
    torch.set_num_threads(1)
    count = options.images or 64
    data = recipe("imagenet/mec", options.large).data
    encoded = [image for image, _ in sample_encoded(data, count)]
    sources = [np.frombuffer(image, np.uint8) for image in encoded]
    shapes = np.array([decoded_pil(image).size[::-1] for image in encoded], np.int64)
    ids = np.array([content_id(image) for image in encoded], np.uint64)
    works: list[Callable[[], object]] = []
    for colour in ("exact", "fused"):
        views = ViewPipeline(_views("imagenet/mec", options.large, colour), _IMAGENET, (256, 256))

        def ours(views: ViewPipeline = views) -> object:
            return decoded_views(sources, shapes, ids, views)

        works.append(ours)
    config = _views("imagenet/mec", options.large, "exact")
    pipelines = [pil_pipeline(config, _IMAGENET, 224, view) for view in range(config.count)]
    works.append(lambda: pil_views([decoded_pil(image) for image in encoded], pipelines))
    what = "224 px, `mec`, two views, decode included, one core"
    return _rows(what, works, config.count * len(encoded), options, (1.0, 2.0))


def _views(name: str, source: str, colour: str) -> ViewsConfig:
    return recipe(name, source, f"views.colour={colour}").views


def _rows(
    what: str,
    works: list[Callable[[], object]],
    views: int,
    options: Options,
    required: tuple[float, float],
) -> list[Row]:
    """Time `exact`, `fused` and PIL, in this order, and return a row of each of the first two."""
    times = in_turn(works, options.rounds)
    rates = [median_rate(times, work, views) for work in range(3)]
    rows = []
    for number, colour in enumerate(("exact", "fused")):
        figures = f"{rates[number]:,.0f} views/s, PIL {rates[2]:,.0f}"
        ratio = median_ratio(times, 2, number)
        rows.append(Row(f"{what}, `{colour}` over PIL", figures, ratio, required[number]))
    return rows
