"""What was measured of a source and this machine, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One thing that is done to each image on its way.

    Attributes:
        name: `decode`, or an operation of the views.
        seconds: of one core, for an image with all its views.
    """

    name: str
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second on one core; infinite where it takes no measurable time."""
        return 1 / self.seconds if self.seconds > 0 else math.inf


@dataclass(frozen=True)
class FeedSpeed:
    """What a feed delivers.

    Attributes:
        name: `memory` or `ray`.
        images_per_s: images with all their views, from all cores together.
        cores: that it had.
    """

    name: str
    images_per_s: float
    cores: int

    @property
    def per_core(self) -> float:
        """Images per second and core."""
        return self.images_per_s / self.cores


@dataclass(frozen=True)
class Measured:
    """A source, a recipe and a machine.

    Attributes:
        source: as given.
        recipe: whose views they are.
        images: how many were drawn.
        describe_images: their size, in words.
        describe_views: number and size of the views, in words.
        decode: decoding; None where images come decoded.
        views: for each kind of colour, the stages of the views; the first kind is the recipe's own.
        feeds: what each feed delivers.
        gpu_rate: images per second that a GPU takes.
        natural: images have sizes of their own, so that `ray` crops them as it decodes.
        gpu_views_per_s: images per second whose views a GPU of this machine makes; None without one.
        notes: what else the user should hear, one line each.
    """

    source: str
    recipe: str
    images: int
    describe_images: str
    describe_views: str
    decode: Stage | None
    views: dict[str, list[Stage]]
    feeds: list[FeedSpeed]
    gpu_rate: float
    natural: bool = False
    gpu_views_per_s: float | None = None
    notes: tuple[str, ...] = ()

    def whole(self, colour: str) -> Stage:
        """Return all operations of the views as one stage."""
        return Stage("views", sum(stage.seconds for stage in self.views[colour]))

    def stages(self, feed: str) -> list[Stage]:
        """Return what is done to each image in each epoch: `memory` decodes but once."""
        own = self.views[next(iter(self.views))]
        return [*([self.decode] if self.decode is not None and feed == "ray" else []), *own]

    def bottleneck(self, feed: str) -> tuple[Stage, float]:
        """Return the stage that takes most of a core's time with a feed, and its share."""
        stages = self.stages(feed)
        slowest = max(stages, key=lambda stage: stage.seconds)
        return slowest, slowest.seconds / sum(stage.seconds for stage in stages)

    def cores(self, feed: FeedSpeed, *, views_on_gpu: bool) -> int:
        """Return how many CPU cores keep the GPU busy: at least one, which feeds it.

        With views on the GPU only decoding is left to the cores, and `memory` has done that.
        """
        if not views_on_gpu:
            return max(1, math.ceil(self.gpu_rate / feed.per_core))
        names = ("decode", "crop") if self.natural else ("decode",)
        left = sum(stage.seconds for stage in self.stages(feed.name) if stage.name in names)
        return max(1, math.ceil(self.gpu_rate * left)) if feed.name == "ray" else 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = asdict(self)
        values["rates"] = {
            "decode": None if self.decode is None else self.decode.rate,
            **{f"views_{colour}": self.whole(colour).rate for colour in self.views},
        }
        for feed, written in zip(self.feeds, values["feeds"], strict=True):
            stage, share = self.bottleneck(feed.name)
            written |= {"per_core": feed.per_core, "bottleneck": stage.name, "bottleneck_share": share}
            written["cores_for_gpu"] = {
                "views_on_cpu": self.cores(feed, views_on_gpu=False),
                "views_on_gpu": self.cores(feed, views_on_gpu=True),
            }
        return values

    def describe(self) -> str:
        """Return the result for people."""
        lines = [
            f"{self.source} as {self.recipe}: {self.images} images drawn, {self.describe_images}; "
            f"{self.describe_views}",
            "",
            f"{'on one core':<26}{'images/s':>10}{'ms/image':>10}",
        ]
        lines += [] if self.decode is None else [_line(self.decode)]
        for colour, stages in self.views.items():
            lines.append(_line(self.whole(colour), f"views, {colour} colour"))
            lines += [_line(stage, f"  {stage.name}") for stage in stages]
        if self.gpu_views_per_s is not None:
            lines.append(f"{'views on this GPU':<26}{self.gpu_views_per_s:>10,.0f}")
        lines += ["", f"{'feed':<26}{'images/s':>10}{'per core':>10}  bottleneck"]
        for feed in self.feeds:
            stage, share = self.bottleneck(feed.name)
            title = f"{feed.name}, {feed.cores} core{'s' if feed.cores > 1 else ''}"
            rates = f"{feed.images_per_s:>10,.0f}{feed.per_core:>10,.0f}"
            lines.append(f"{title:<26}{rates}  {stage.name}, {share:.0%} of a core's time")
        lines += ["", f"CPU cores for a GPU that takes {self.gpu_rate:,.0f} images/s:"]
        for feed in self.feeds:
            here, there = (self.cores(feed, views_on_gpu=on) for on in (False, True))
            lines.append(f"  {feed.name}: {here} with views on the CPU, {there} with views on the GPU")
        return "\n".join([*lines, *self.notes])


def _line(stage: Stage, title: str | None = None) -> str:
    rate = f"{stage.rate:>10,.0f}" if math.isfinite(stage.rate) else f"{'':>10}"
    return f"{title or stage.name:<26}{rate}{1000 * stage.seconds:>10.3f}"
