"""What one core takes for each image: decoding, and each operation of the views."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.data.config import DataConfig, ViewsConfig
from raysl.data.decode import decode_image
from raysl.data.decoded import Ids, Images, Normalization
from raysl.data.measured import Stage
from raysl.data.sources import stored_channels
from raysl.data.views import ViewPipeline

_BATCH = 256
_LEAST_ROUNDS = 3
# Share of the time for a measurement that a single round of it should take.
_ROUND = 1 / 6


def one_core_seconds(works: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Return the seconds of each work on one core, done in turn for about `seconds` in all.

    The fastest of several rounds: other work on the machine can only make one slower.
    """
    with threads(1):
        for work in works:
            work()
        rounds: list[list[float]] = []
        end = time.perf_counter() + seconds
        while len(rounds) < _LEAST_ROUNDS or time.perf_counter() < end:
            rounds.append([_timed(work) for work in works])
    return [min(column) for column in zip(*rounds, strict=True)]


def decode_stage(encoded: Sequence[bytes], config: DataConfig, seconds: float) -> Stage:
    """Measure decoding as the feeds do it: to whole images, resized where `image_size` says so.

    Args:
        encoded: files of images.
        config: size and channels that images are stored with.
        seconds: how long to measure.
    """
    channels, size = stored_channels(config), config.image_size
    few = encoded[:8]
    each = one_core_seconds([lambda: [decode_image(e, channels, size) for e in few]], 0.0)[0] / len(few)
    encoded = encoded[: _fitting(each, seconds, len(encoded))]
    (taken,) = one_core_seconds([lambda: [decode_image(e, channels, size) for e in encoded]], seconds)
    return Stage("decode", taken / len(encoded))


def view_stages(config: ViewsConfig, images: Images, ids: Ids, seconds: float) -> list[Stage]:
    """Measure each operation of the views, in the order of the recipe; their sum is the whole.

    `convert` is what comes before the first operation and `normalize` what comes after the last one; with
    `colour: fused` that is where the colours are changed.

    Args:
        config: makes the views.
        images: (N, C, H, W) uint8; as many are taken as fit the time.
        ids: (N,) image ids.
        seconds: how long to measure.
    """
    pixels = torch.from_numpy(images)
    views = ViewPipeline(config, _middle(images.shape[1]), (int(images.shape[2]), int(images.shape[3])))
    few = min(len(images), 8)
    each = one_core_seconds([_pass(views, pixels[:few], ids[:few])], 0.0)[0] / few
    count = _fitting(each, seconds, len(images))
    watch = _Watch()
    views.watch = watch
    work = _pass(views, pixels[:count], ids[:count])

    def watched() -> None:
        watch.begin()
        work()

    (whole,) = one_core_seconds([watched], seconds)
    parts = {name: min(times) for name, times in watch.rounds.items()}
    scale = whole / sum(parts.values()) / count
    return [Stage(name, part * scale) for name, part in parts.items()]


class _Watch:
    """A stopwatch that adds up, for each round, what every operation took."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[float]] = {}
        self._round = 0
        self._last = 0.0

    def begin(self) -> None:
        self._round += 1
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        times = self.rounds.setdefault(name, [])
        if len(times) < self._round:
            times.append(0.0)
        times[-1] += now - self._last
        self._last = now


def views_per_s(config: ViewsConfig, images: Images, ids: Ids, device: torch.device, seconds: float) -> float:
    """Return of how many images in a second a device makes all views.

    Args:
        config: makes the views.
        images: (N, C, H, W) uint8.
        ids: (N,) image ids.
        device: where, such as a GPU.
        seconds: how long to measure.
    """
    channels = images.shape[1]
    views = ViewPipeline(config, _middle(channels), (int(images.shape[2]), int(images.shape[3])))
    work = _pass(views, torch.from_numpy(images).to(device), ids)
    return len(images) / one_core_seconds([work], seconds)[0]


def _fitting(each: float, seconds: float, most: int) -> int:
    """Return how many images, at `each` seconds for one, leave time for several rounds."""
    return max(1, min(most, int(_ROUND * seconds / each)))


def _pass(views: ViewPipeline, images: Tensor, ids: Ids) -> Callable[[], object]:
    def work() -> None:
        for start in range(0, len(images), _BATCH):
            rows = slice(start, start + _BATCH)
            views(images[rows], ids[rows], seed=0, epoch=0)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)

    return work


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _middle(channels: int) -> Normalization:
    return Normalization((0.5,) * channels, (0.25,) * channels)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
