"""Which feed a run has, its images, and its batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from raysl.data.batches import Batch, Batching
from raysl.data.config import DataConfig, ViewsConfig
from raysl.data.crew import connected_crew
from raysl.data.decoded import Decoded
from raysl.data.encoded import Encoded, Training
from raysl.data.indexing import index_training
from raysl.data.memory import MemoryFeed
from raysl.data.ray_feed import RayFeed
from raysl.data.sample import Picture, sample_pictures
from raysl.data.sources import DIGITS, count_training, load_training
from raysl.data.views import ViewPipeline
from raysl.machine import GIB, allocation

MEMORY_SHARE = 0.25
"""Of the node's memory, that decoded images may take for `auto` to choose the `memory` feed: they are there
twice while they are put into the object store."""
_LOOKED_AT = 16


class Feed(Protocol):
    """Batches of an epoch; every feed has the same ones."""

    @property
    def steps_per_epoch(self) -> int:
        """Complete global batches in an epoch."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start_step` on."""


@dataclass(frozen=True)
class Choice:
    """The feed of a run.

    Attributes:
        feed: which.
        line: for people, where it was not they who chose; else nothing.
    """

    feed: Literal["memory", "ray"]
    line: str = ""


def choose_feed(config: DataConfig) -> Choice:
    """Return the feed that a config names, or that `auto` stands for; at most a few images are decoded.

    Raises:
        InputError: the source is missing, empty or unreadable.
    """
    if config.feed != "auto":
        return Choice(config.feed)
    if config.source == DIGITS:
        return Choice("memory", "feed: memory (auto; the digits are small)")
    looked_at = sample_pictures(config, _LOOKED_AT)
    if _have_own_sizes(looked_at):
        return Choice(
            "ray", "feed: ray (auto; images have sizes of their own and there is no data.image_size)"
        )
    needed = count_training(config) * looked_at[0].pixels.size
    share = f"{MEMORY_SHARE:.0%} of this node's memory"
    allowed = MEMORY_SHARE * allocation().memory_bytes
    if config.memory_limit is not None:
        share, allowed = "data.memory_limit", config.memory_limit * GIB
    feed: Literal["memory", "ray"] = "memory" if needed <= allowed else "ray"
    compared = "fit in" if feed == "memory" else "are more than"
    return Choice(
        feed,
        f"feed: {feed} (auto; {needed / GIB:.2f} GiB of decoded images {compared} {share}, "
        f"{allowed / GIB:.2f} GiB)",
    )


def load_images(
    config: DataConfig, views: ViewsConfig, feed: Literal["memory", "ray"]
) -> tuple[Training, Decoded]:
    """Return (train, selection) as a feed has them.

    For `ray`, tasks of the Ray that this process is connected to read them, without one threads.

    Raises:
        InputError: the source is missing, empty or unreadable, or the feed cannot have such images.
    """
    if feed == "memory":
        return load_training(config)
    return index_training(config, connected_crew(config.decode_labels), shown=_shown_side(views))


def evaluated_as(config: DataConfig, views: ViewsConfig) -> DataConfig:
    """Return the config by which `load_split` decodes images as un-augmented views show them in training.

    It differs only for images of sizes of their own, which are then stored as the squares that they are shown
    as.
    """
    side = _shown_side(views)
    if config.source == DIGITS or config.image_size is not None or side is None:
        return config
    own = _have_own_sizes(sample_pictures(config, _LOOKED_AT))
    return config.model_copy(update={"image_size": side}) if own else config


def share_out(data: Training, consumers: int) -> None:
    """Divide the CPUs that decode among the processes that images are sent to, before they are."""
    if isinstance(data, Encoded):
        data.crew.share_out(consumers)


def build_feed(data: Training, views: ViewPipeline, batching: Batching) -> Feed:
    """Return the feed of some images.

    Args:
        data: the training images.
        views: makes the views.
        batching: which batches.

    Raises:
        InputError: the batch is larger than the data, or does not divide among the workers.
    """
    if isinstance(data, Encoded):
        return RayFeed(data, views, batching)
    return MemoryFeed(data, views, batching)


def _have_own_sizes(pictures: list[Picture]) -> bool:
    return len({picture.pixels.shape for picture in pictures}) > 1


def _shown_side(views: ViewsConfig) -> int | None:
    """Return the side that an image of a size of its own is shown with; None where views need one size."""
    operations, first = views.operations(), views.sizes()[0]
    # Tasks cut with PIL, which always widens its filter.
    if not operations or operations[0][0] != "crop" or views.crop is None or not views.crop.antialias:
        return None
    if None in views.sizes() or first is None:
        return None
    return max(views.evaluation.resize or 0, views.evaluation.crop or first)
