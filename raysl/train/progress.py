"""How a run looks while it goes: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from raysl.train.context import StepNews


class ProgressView:
    """Shows loss, images/s and the time left; one line per finished epoch stays on the screen.

    Args:
        epochs: epochs the run has.
        stream: where to show it, stderr unless given; a bar is drawn only on a terminal.
    """

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        self._epochs = epochs
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began: tuple[float, float] | None = None
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[news]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("epoch", total=epochs, news="")

    def step(self, news: StepNews) -> None:
        """Show how far the epoch is."""
        done = news.epoch - 1 + news.step / news.steps
        if self._began is None:
            self._began = (time.monotonic(), done)
        if self._bar is not None and self._task is not None:
            text = f"loss {news.loss:.4g}  {news.images_per_s:,.0f} images/s"
            self._bar.update(
                self._task, completed=done, description=f"epoch {news.epoch}/{self._epochs}", news=text
            )

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show a finished epoch as a line."""
        shown = [f"epoch {epoch}/{self._epochs}", f"loss {metrics.get('train/loss', float('nan')):.4f}"]
        if "eval/knn_top1" in metrics:
            shown.append(f"k-NN {metrics['eval/knn_top1']:.2f} %")
        if "diag/rankme" in metrics:
            shown.append(f"rank {metrics['diag/rankme']:.1f}")
        if "perf/images_per_s" in metrics:
            shown.append(f"{metrics['perf/images_per_s']:,.0f} images/s")
        if "perf/data_wait" in metrics:
            shown.append(f"waiting for data {100 * metrics['perf/data_wait']:.0f} %")
        if self._began is not None and epoch < self._epochs and epoch > self._began[1]:
            left = (time.monotonic() - self._began[0]) / (epoch - self._began[1]) * (self._epochs - epoch)
            shown.append(f"{_clock(left)} left")
        self._console.print("  ".join(shown), soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
