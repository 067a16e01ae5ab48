"""How fast this machine makes views of a source: decoding and each operation on one core, and each feed."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from raysl.data.batches import Batching
from raysl.data.config import DataConfig, SelectionConfig, ViewsConfig
from raysl.data.decoded import Images, normalization
from raysl.data.feeds import build_feed, load_images
from raysl.data.measured import FeedSpeed, Measured
from raysl.data.sample import sample_encoded, sample_pictures, sample_readable
from raysl.data.stages import decode_stage, threads, view_stages, views_per_s
from raysl.data.views import ViewPipeline
from raysl.errors import InputError

_BATCH = 256
# Encoded bytes, and images, that are drawn at most.
_SAMPLE_BYTES, _SAMPLE = 24 << 20, 2048
_FEEDS: tuple[Literal["memory", "ray"], ...] = ("memory", "ray")


def measure_source(
    data: DataConfig, views: ViewsConfig, *, recipe: str, cores: int, seconds: float, gpu_rate: float
) -> Measured:
    """Measure a source on this machine; a Ray should be connected, without one threads decode.

    Args:
        data: the source, and how its images are stored.
        views: makes the views.
        recipe: what to call the two.
        cores: that the feeds may use.
        seconds: how long to measure each thing.
        gpu_rate: images per second that a GPU takes.

    Raises:
        InputError: the source cannot be read, or no views can be made of its images.
    """
    encoded = _sample(data)
    side = _side_of_natural(data, views, encoded)
    stored = data if side is None else data.model_copy(update={"image_size": side})
    pictures = sample_pictures(stored, _BATCH)
    images = np.stack([picture.pixels for picture in pictures])
    ids = np.array([picture.id for picture in pictures], np.uint64)
    kinds = sorted(("exact", "fused"), key=lambda kind: kind != views.colour)
    stages = {
        kind: view_stages(views.model_copy(update={"colour": kind}), images, ids, seconds) for kind in kinds
    }
    speeds, notes = [], []
    if side is not None:
        notes.append(
            f"images have sizes of their own: the operations were measured on squares of {side} pixels"
        )
        notes.append("feed memory was not measured: it stores images with one size; set data.image_size")
    for feed in _FEEDS if side is None else _FEEDS[1:]:
        try:
            speeds.append(feed_speed(encoded, data, views, feed, cores, seconds))
        except InputError as error:
            notes.append(f"feed {feed} was not measured: {error}")
    gpu = torch.device("cuda") if torch.cuda.is_available() else None
    return Measured(
        source=data.source,
        recipe=recipe,
        images=len(encoded) or len(images),
        describe_images=_described(encoded, images),
        describe_views=_described_views(views),
        decode=decode_stage(encoded, data, seconds) if encoded else None,
        natural=side is not None,
        views=stages,
        feeds=speeds,
        gpu_rate=gpu_rate,
        gpu_views_per_s=None if gpu is None else views_per_s(views, images, ids, gpu, seconds),
        notes=tuple(notes),
    )


def _sample(data: DataConfig) -> list[bytes]:
    """Return as many files as measure well; none of `digits`, which come decoded."""
    few = [len(encoded) for encoded, _ in sample_encoded(data, 16)]
    count = min(_SAMPLE, _SAMPLE_BYTES * len(few) // max(1, sum(few)))
    return [encoded for encoded, _ in sample_readable(data, max(16, count))]


def _side_of_natural(data: DataConfig, views: ViewsConfig, encoded: Sequence[bytes]) -> int | None:
    """Return the side of the squares to measure on; None where images are stored with one size."""
    if data.image_size is not None or len({_size(image) for image in encoded}) < 2:
        return None
    first = views.sizes()[0]
    if first is None:
        raise InputError("images have sizes of their own: set data.image_size, or views.size to crop to")
    return views.evaluation.resize or first


def _size(encoded: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(encoded)) as image:
        return image.size


def _described(encoded: Sequence[bytes], images: Images) -> str:
    if not encoded:
        return f"{images.shape[3]}x{images.shape[2]}, which come decoded"
    wide, tall = (int(side) for side in np.median([_size(image) for image in encoded], axis=0))
    size = np.median([len(image) for image in encoded]) / 1000
    return f"in the median {wide}x{tall} pixels and {size:.1f} kB"


def _described_views(views: ViewsConfig) -> str:
    sizes = ", ".join("the stored size" if side is None else f"{side}x{side}" for side in views.sizes())
    plain = sizes if len(set(views.sizes())) > 1 else sizes.split(", ")[0]
    return f"{views.count} view{'s' if views.count > 1 else ''} of {plain}"


def feed_speed(
    encoded: Sequence[bytes],
    config: DataConfig,
    views: ViewsConfig,
    feed: Literal["memory", "ray"],
    cores: int,
    seconds: float,
) -> FeedSpeed:
    """Measure a feed over some images, from its second epoch on.

    For `ray` this process is connected to a Ray, or threads do what its tasks would.

    Args:
        encoded: files of images; none takes those of the source.
        config: how they are stored.
        views: makes the views.
        feed: which feed.
        cores: that `ray` may use; `memory` is measured on one, as torch's threads add little on few images.
        seconds: how long to measure.

    Raises:
        InputError: the feed cannot have such images.
    """
    with _written(encoded, config) as data, threads(1):
        training, _ = load_images(data, views, feed)
        pipeline = ViewPipeline(views, normalization(data, training), training.size)
        batch = min(_BATCH, len(training))
        batches = build_feed(training, pipeline, Batching(batch, seed=0))
        for _ in batches.epoch(0):
            continue
        count, epoch, began = 0, 1, time.perf_counter()
        while (taken := time.perf_counter() - began) < seconds:
            count += sum(len(part.indices) for part in batches.epoch(epoch))
            epoch += 1
    return FeedSpeed(feed, count / taken, 1 if feed == "memory" else cores)


# What belongs to the source and not to images that were drawn from it.
_ALONE: dict[str, Any] = {
    "image_column": "image",
    "label_column": None,
    "group": None,
    "subset": None,
    "train_split": "train",
    "selection": SelectionConfig(fraction=0),
}


@contextmanager
def _written(encoded: Sequence[bytes], config: DataConfig) -> Iterator[DataConfig]:
    """Yield a source of these images alone; where there are none, the one that is given."""
    if not encoded:
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="raysl-bench-") as folder:
        path = Path(folder) / "images.parquet"
        table = pa.table({"image": pa.array(encoded, pa.binary())})
        pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=64)
        yield config.model_copy(update={**_ALONE, "source": str(path)})
