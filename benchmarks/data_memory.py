"""What a further trial on a node costs in memory when its images are mapped from the object store."""

from __future__ import annotations

import gc
import os
import statistics
from typing import Any

import numpy as np
import ray

from benchmarks.data_case import Options, Row, private_bytes, recipe
from raysl.cluster.connect import connect
from raysl.data.batches import Batching
from raysl.data.config import DataConfig, ViewsConfig
from raysl.data.decoded import Decoded, normalization
from raysl.data.memory import MemoryFeed
from raysl.data.sources import load_training
from raysl.data.views import ViewPipeline

_TRIALS = 4
_BATCH = 256
_FEW = 4 * _BATCH
_MB = 1e6


def memory(options: Options) -> list[Row]:
    """Run one epoch of views over CIFAR-10 in four processes at once and count what each has for itself."""
    config = recipe("cifar10/w_mse", options.small)
    train, _ = load_training(config.data)
    few = train.rows(np.arange(min(_FEW, len(train))))
    with connect("local", cpus=_TRIALS, dashboard=False):
        whole, part = ray.put(train), ray.put(few)
        make: Any = ray.remote(num_cpus=1)(_Trial)
        trials = [make.remote(config.views) for _ in range(_TRIALS)]
        before = ray.get([trial.epoch.remote(part) for trial in trials])
        after = ray.get([trial.epoch.remote(whole) for trial in trials])
    extra = [(second - first) / _MB for first, second in zip(before, after, strict=True)]
    figures = (
        f"{len(train)} images of {train.images.nbytes / _MB:.0f} MB; private bytes of {_TRIALS} processes "
        f"{min(extra):+.1f} to {max(extra):+.1f} MB against the same over {_FEW} images"
    )
    what = f"`memory` feed, {_TRIALS} trials on one node over CIFAR-10: extra MB of data of each"
    return [Row(what, figures, statistics.median(extra), 50.0, most=True)]


class _Trial:
    """A trial's process, as far as its images go."""

    def __init__(self, views: ViewsConfig) -> None:
        self._views = views

    def epoch(self, data: Decoded) -> int:
        """Make every view of an epoch, and return the bytes that only this process holds."""
        views = ViewPipeline(self._views, normalization(DataConfig(), data), data.size)
        feed = MemoryFeed(data, views, Batching(_BATCH, seed=0))
        for batch in feed.epoch(0):
            del batch
        gc.collect()
        # The images stay mapped while the bytes are counted.
        return private_bytes(os.getpid()) if len(feed.data) else 0
