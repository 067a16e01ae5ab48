"""The `ray` feed inside a Ray Train worker: its speed beside a torch DataLoader's, and its gaps."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.data_case import Options, Row, recipe
from raysl.cluster.connect import connect
from raysl.data import tasks
from raysl.data.batches import Batching
from raysl.data.config import DataConfig, ViewsConfig
from raysl.data.decoded import content_id, normalization
from raysl.data.feeds import build_feed, load_images, share_out
from raysl.data.sample import sample_encoded
from raysl.data.tasks import Places
from raysl.data.views import ViewPipeline

_CPUS = 2
_BATCH = 64
_IMAGES = 1024
# Longer than any measurement: the feed then makes the next epoch's first batches while one ends.
_ENDLESS = 1 << 20


def repeated(source: str, folder: Path, images: int, broken: int = 0) -> tuple[Path, list[bytes]]:
    """Write a Parquet file of so many images, those of a source again and again; some cut to half.

    Columns are as `raysl data prepare` writes them: each image is in the file as it is.
    """
    some = [image for image, _ in sample_encoded(DataConfig(source=source), images)]
    encoded = [some[row % len(some)] for row in range(images)]
    for row in range(0, images, images // broken if broken else images + 1):
        if broken:
            encoded[row] = encoded[row][: len(encoded[row]) // 2]
    path = folder / "images.parquet"
    table = pa.table({"image": pa.array(encoded, pa.binary())})
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=64)
    return path, encoded


def ray_feed(options: Options) -> list[Row]:
    """Time steady epochs of the feed and of a DataLoader that does the same, in the same worker in turn."""
    told = _in_worker(options, loader=True)
    ratio = statistics.median(
        theirs / ours for ours, theirs in zip(told["ours"], told["theirs"], strict=True)
    )
    rates = [told["images"] / statistics.median(told[who]) for who in ("ours", "theirs")]
    figures = f"{rates[0]:,.0f} images/s, DataLoader with {_CPUS} workers {rates[1]:,.0f}"
    return [Row(f"`ray` feed, {_CPUS} CPUs, 224 px `mec`, over a `DataLoader`", figures, ratio, 0.9)]


def gap(options: Options) -> list[Row]:
    """Time from an epoch's last batch to the next one's first."""
    told = _in_worker(options, loader=False)
    figures = (
        f"{len(told['gaps'])} gaps, longest {max(told['gaps']):.2f} s; a batch takes {told['step']:.2f} s"
    )
    value = statistics.median(told["gaps"])
    return [
        Row("`ray` feed: s from epoch end to the next epoch's first batch", figures, value, 1.0, most=True)
    ]


def _in_worker(options: Options, *, loader: bool) -> dict[str, Any]:
    """Measure in a Ray Train worker of a private Ray with two CPUs, and return what it found."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    with tempfile.TemporaryDirectory(prefix="raysl-benchmark-") as folder, connect("local", cpus=_CPUS):
        source, encoded = repeated(options.large, Path(folder), options.images or _IMAGES)
        config = recipe("imagenet/mec", str(source), "data.image_size=null", "data.label_column=null")
        data, _ = load_images(config.data, config.views, "ray")
        share_out(data, 1)
        job = {
            "data": ray.put([data]),
            "views": config.views,
            "source": config.data,
            "encoded": ray.put([encoded]) if loader else None,
            "rounds": options.rounds,
            "out": str(Path(folder) / "told.json"),
        }
        trainer = TorchTrainer(
            _train,
            train_loop_config=job,
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(storage_path=folder, name="benchmark"),
        )
        trainer.fit()
        found: dict[str, Any] = json.loads((Path(folder) / "told.json").read_text())
    return found


def _train(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    (data,) = ray.get(job["data"])
    views = ViewPipeline(job["views"], normalization(job["source"], data), data.size)
    feed = build_feed(data, views, Batching(_BATCH, seed=0))
    epochs = iter(range(_ENDLESS))

    def ours() -> Iterator[int]:
        for batch in feed.epoch(next(epochs)):
            yield len(batch.indices)

    if job["encoded"] is None:
        told = _gaps(ours, job["rounds"])
    else:
        (encoded,) = ray.get(job["encoded"])
        theirs = _loader(_Images(encoded, data.shapes, job["views"], normalization(job["source"], data)))
        told = _speeds(ours, lambda: (len(views[0]) for views in theirs), job["rounds"])
    Path(job["out"]).write_text(json.dumps(told))


def _speeds(
    ours: Callable[[], Iterator[int]], theirs: Callable[[], Iterator[int]], rounds: int
) -> dict[str, Any]:
    """Time an epoch of each in turn, each after one of its own that is not timed."""
    told: dict[str, Any] = {"ours": [], "theirs": [], "images": 0}
    for _ in range(rounds):
        for name, epoch in (("ours", ours), ("theirs", theirs)):
            sum(epoch())
            began = time.perf_counter()
            told["images"] = sum(epoch())
            told[name].append(time.perf_counter() - began)
    return told


def _gaps(epoch: Callable[[], Iterator[int]], rounds: int) -> dict[str, Any]:
    gaps, steps = [], []
    last = 0.0
    for number in range(rounds + 1):
        for step, _ in enumerate(epoch()):
            now = time.perf_counter()
            if step == 0 and number > 0:
                gaps.append(now - last)
            elif step > 0:
                steps.append(now - last)
            last = now
    return {"gaps": gaps, "step": statistics.median(steps)}


class _Images(Dataset[list[Tensor]]):
    """Makes a batch of views at once, by the functions of the `ray` feed."""

    def __init__(self, encoded: Sequence[bytes], shapes: Any, views: ViewsConfig, normalization: Any) -> None:
        self._sources = [np.frombuffer(image, np.uint8) for image in encoded]
        self._ids = np.array([content_id(image) for image in encoded], np.uint64)
        self._shapes, self._views, self._normalization = shapes, views, normalization

    def __len__(self) -> int:
        return len(self._sources)

    def __getitems__(self, rows: list[int]) -> list[Tensor]:
        pipeline = ViewPipeline(self._views, self._normalization, (224, 224))
        return decoded_views(
            [self._sources[row] for row in rows], self._shapes[rows], self._ids[rows], pipeline
        )


def decoded_views(sources: Sequence[Any], shapes: Any, ids: Any, pipeline: ViewPipeline) -> list[Tensor]:
    """Return the views of encoded images of any sizes, by the functions of the `ray` feed.

    Args:
        sources: each image's bytes as a uint8 array.
        shapes: (N, 2) height and width of each.
        ids: (N,) image ids.
        pipeline: makes the views.
    """
    n = len(sources)
    lengths = np.array([len(source) for source in sources], np.int64)
    places = Places(np.arange(n), np.zeros(n, np.int64), lengths)
    boxes = pipeline.boxes(shapes, ids, seed=0, epoch=0)
    crop = pipeline.config.crop
    bicubic = crop is not None and crop.interpolation == "bicubic"
    crops = tasks.decode_crops(sources, places, 3, boxes, pipeline.sizes, bicubic, None)
    return pipeline.of_crops([torch.from_numpy(part) for part in crops], ids, seed=0, epoch=0)


def _loader(images: _Images) -> DataLoader[list[Tensor]]:
    return DataLoader(
        images,
        batch_size=_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=_CPUS,
        persistent_workers=True,
        collate_fn=_as_it_is,
    )


def _as_it_is(views: list[Tensor]) -> list[Tensor]:
    return views
