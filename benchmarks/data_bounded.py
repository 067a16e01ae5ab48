"""The `ray` feed over more than the object store holds, and preparing a set with broken images."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.data_case import Options, Row, recipe
from benchmarks.data_ray import repeated
from raysl.cluster.connect import connect
from raysl.data.batches import Batching
from raysl.data.decoded import normalization
from raysl.data.feeds import build_feed, load_images
from raysl.data.views import ViewPipeline

_STORE = 100_000_000
_TIMES = 4
_EPOCHS = 4
_BATCH = 64
_MB = 1e6


def bounded(options: Options) -> list[Row]:
    """Run epochs whose decoded views are four times the object store, and watch memory."""
    view_bytes = 2 * 3 * 224 * 224
    images = options.images or -(-_TIMES * _STORE // view_bytes)
    watch = _Memory()
    with (
        tempfile.TemporaryDirectory(prefix="raysl-benchmark-") as folder,
        connect("local", cpus=2, object_store_memory=_STORE, dashboard=False),
    ):
        source, _ = repeated(options.large, Path(folder), images)
        config = recipe("imagenet/mec", str(source), "data.image_size=null", "data.label_column=null")
        data, _ = load_images(config.data, config.views, "ray")
        views = ViewPipeline(config.views, normalization(config.data, data), data.size)
        feed = build_feed(data, views, Batching(_BATCH, seed=0, epochs=_EPOCHS))
        with watch:
            steps = sum(1 for epoch in range(_EPOCHS) for _ in feed.epoch(epoch))
        spilled = _store().spilled_bytes_total
    early, late = watch.resident(0.25, 0.5), watch.resident(0.75, 1.0)
    watch.draw(options.picture / "ray_feed_memory.png")
    figures = (
        f"{steps} batches, {images * view_bytes / _STORE:.1f} times the store an epoch; "
        f"resident {early / _MB:,.0f} MB in the second quarter, {late / _MB:,.0f} MB in the last"
    )
    what = "`ray` feed, decoded views 4x the object store: growth of resident memory, %"
    growth = 100 * (late / early - 1)
    return [
        Row(what, figures, growth, 10.0, most=True),
        Row("the same: MB spilled", "", spilled / _MB, 0.0, most=True),
    ]


def corrupt(options: Options) -> list[Row]:
    """Prepare a set of which one image in a hundred is cut to half, beside the whole set."""
    from raysl.data.prepare.find import find_splits
    from raysl.data.prepare.prepare import Limit, Request, prepare

    images = options.images or 1500
    times: dict[str, list[float]] = {"whole": [], "broken": []}
    rejected = 0
    with (
        tempfile.TemporaryDirectory(prefix="raysl-benchmark-") as folder,
        connect("local", cpus=2, dashboard=False),
    ):
        sources = {}
        for name, broken in (("whole", 0), ("broken", images // 100)):
            (Path(folder) / name).mkdir()
            sources[name], _ = repeated(options.large, Path(folder) / name, images, broken)
        for number in range(options.rounds + 1):
            for name, source in sources.items():
                began = time.perf_counter()
                splits = find_splits(str(source))
                made = prepare(
                    str(source), splits, f"{folder}/{name}{number}", Request(limit=Limit(share=0.05)), _silent
                )
                if number > 0:
                    times[name].append(time.perf_counter() - began)
            rejected = made.manifest["splits"]["train"]["rejected"]
    ratio = statistics.median(a / b for a, b in zip(times["whole"], times["broken"], strict=True))
    rates = [images / statistics.median(times[name]) for name in ("whole", "broken")]
    figures = f"{rates[0]:,.0f} images/s without, {rates[1]:,.0f} with; {rejected} of {images} rejected"
    what = "1 % of the rows broken, `raysl data prepare`: speed over the whole set's"
    return [Row(what, figures, ratio, 0.95), *(_corrupt_feed(options, feed) for feed in ("memory", "ray"))]


def _corrupt_feed(options: Options, kind: Literal["memory", "ray"]) -> Row:
    """Time steady epochs over a set of which one image in a hundred is cut to half, and over the whole."""
    images = options.images or 1024
    feeds, unreadable = {}, 0
    with (
        tempfile.TemporaryDirectory(prefix="raysl-benchmark-") as folder,
        connect("local", cpus=2, dashboard=False),
    ):
        for name, broken in (("whole", 0), ("broken", images // 100)):
            (Path(folder) / name).mkdir()
            source, _ = repeated(options.large, Path(folder) / name, images, broken)
            size = "data.image_size=256" if kind == "memory" else "data.image_size=null"
            more = [size, "data.label_column=null", "data.max_bad=0.02"]
            config = recipe("imagenet/mec", str(source), *more)
            data, _ = load_images(config.data, config.views, kind)
            unreadable = len(data.unreadable)
            views = ViewPipeline(config.views, normalization(config.data, data), data.size)
            feeds[name] = build_feed(data, views, Batching(_BATCH, seed=0, epochs=options.rounds + 1))
        rates: dict[str, list[float]] = {name: [] for name in feeds}
        for epoch in range(options.rounds + 1):
            for name, feed in feeds.items():
                began = time.perf_counter()
                count = sum(len(batch.indices) for batch in feed.epoch(epoch))
                if epoch > 0:
                    rates[name].append(count / (time.perf_counter() - began))
    ratio = statistics.median(b / a for a, b in zip(rates["whole"], rates["broken"], strict=True))
    shown = [statistics.median(rates[name]) for name in ("whole", "broken")]
    figures = f"{shown[0]:,.0f} images/s without, {shown[1]:,.0f} with; {unreadable} left out and counted"
    return Row(f"the same, `{kind}` feed, steady epochs", figures, ratio, 0.95)


def _silent(line: str) -> None:
    """Tell nobody."""


def _store() -> Any:
    """Return what the raylet says of its object store."""
    import ray
    from ray._private.internal_api import node_stats

    (node,) = ray.nodes()
    reply = node_stats(
        node_manager_address=node["NodeManagerAddress"],
        node_manager_port=node["NodeManagerPort"],
        include_memory_info=False,
    )
    return reply.store_stats


class _Memory:
    """Notes, several times a second, the memory that this process and its children hold, and the store."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int, int]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: Any) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.perf_counter()
        while not self._end.wait(0.5):
            here = psutil.Process()
            own = sum(self._own(process) for process in (here, *here.children(recursive=True)))
            self.rows.append((time.perf_counter() - began, own, int(_store().object_store_bytes_used)))

    @staticmethod
    def _own(process: psutil.Process) -> int:
        """Return the bytes of a process that are not in shared memory, as the object store is."""
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            return 0
        return int(memory.rss - memory.shared)

    def resident(self, first: float, last: float) -> float:
        """Return the mean of all bytes over a part of the time."""
        end = self.rows[-1][0]
        within = [own + store for when, own, store in self.rows if first * end <= when <= last * end]
        return statistics.mean(within)

    def draw(self, path: Path) -> None:
        """Write the plot."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        when = [row[0] for row in self.rows]
        axes.plot(
            when, [(row[1] + row[2]) / _MB for row in self.rows], label="all processes and object store"
        )
        axes.plot(when, [row[2] / _MB for row in self.rows], label="object store")
        axes.axhline(_STORE / _MB, color="grey", linestyle=":", label="size of the object store")
        axes.set(
            xlabel="seconds",
            ylabel="resident MB",
            ylim=(0, None),
            title="ray feed, epochs of more than the store",
        )
        axes.legend()
        figure.savefig(path, dpi=110)
