"""How far preparing is: a bar on a terminal, a line now and then otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY_S = 10.0


class PrepareProgress:
    """Shows how many images are done, how many of them were rejected, and the time left.

    Args:
        images: how many there are.
        stream: where to show it, stderr unless given.
    """

    def __init__(self, images: int, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._images, self._done, self._rejected = images, 0, 0
        self._began = self._told = time.monotonic()
        self._bar: Progress | None = None
        if self._console.is_terminal:
            news = TextColumn("{task.fields[news]}")
            columns = (TextColumn("prepare"), BarColumn(), MofNCompleteColumn(), news, TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("prepare", total=images, news="")

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def add(self, images: int, rejected: int) -> None:
        """Count images that are done, of which some were rejected."""
        self._done += images
        self._rejected += rejected
        news = f"{self._rejected:,} rejected" if self._rejected else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, news=news)
        elif time.monotonic() - self._told > _EVERY_S:
            self._told = time.monotonic()
            speed = self._done / (self._told - self._began)
            self._console.print(
                f"{self._done:,} of {self._images:,} images, {speed:,.0f} images/s  {news}", soft_wrap=True
            )
