"""What the rows of `benchmarks/data.py` share: options, timing in turn, and how a row is printed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from raysl.config import load
from raysl.train.config import RunConfig


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        small: source of small images, such as CIFAR-10.
        large: source of photographs of natural size.
        rounds: how often everything is repeated.
        images: images of a round; by default what takes about a second.
        picture: folder for plots.
    """

    small: str
    large: str
    rounds: int = 5
    images: int | None = None
    picture: Path = Path("docs/images")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        what: what was compared.
        figures: what was measured, in words.
        value: the number that is judged; None for a row that is only looked at.
        required: the least it has to be, or the most where `most` is set.
        most: judge by an upper bound.
    """

    what: str
    figures: str
    value: float | None = None
    required: float | None = None
    most: bool = False

    @property
    def met(self) -> bool:
        """Whether the requirement is met, or there is none."""
        if self.value is None or self.required is None:
            return True
        return self.value <= self.required if self.most else self.value >= self.required

    def describe(self) -> str:
        """Return the row as Markdown."""
        needed = (
            "" if self.required is None else f"{'at most' if self.most else 'at least'} {self.required:g}"
        )
        value = "" if self.value is None else f"{self.value:.3g}"
        return f"| {self.what} | {self.figures} | {value} | {needed} | {'met' if self.met else 'missed'} |"


HEADER = "| what | measured | value | required | |\n| --- | --- | --- | --- | --- |"


def in_turn(works: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the seconds of each work in each round; a round does each once, after one that is not counted.

    What else the machine does falls on all of them, so the ratios of a round can be trusted when the rates
    cannot.
    """
    for work in works:
        work()
    return [[_seconds(work) for work in works] for _ in range(rounds)]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_ratio(times: Sequence[Sequence[float]], slow: int, fast: int) -> float:
    """Return the median over the rounds of how many times faster work `fast` is than work `slow`."""
    return statistics.median(row[slow] / row[fast] for row in times)


def median_rate(times: Sequence[Sequence[float]], work: int, count: int) -> float:
    """Return the median number of things that a work does in a second."""
    return statistics.median(count / row[work] for row in times)


def recipe(name: str, source: str, *overrides: str) -> RunConfig:
    """Return a recipe on another source, without labels held out."""
    return load(RunConfig, [name], [f"data.source={source}", "data.selection.fraction=0", *overrides])


def private_bytes(pid: int) -> int:
    """Return the bytes of a process that no other process shares, from Linux's smaps_rollup."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    return 1024 * (fields["Private_Clean"] + fields["Private_Dirty"])


def load_note() -> str:
    """Return a line on what else the machine was doing."""
    return f"load average at the end {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} CPUs"
