"""How a sweep looks while it goes: a live table on a terminal, a line per ended trial otherwise."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from raysl.tune.entry import Entry
from raysl.tune.space import Scalar, SpaceConfig

_ROWS = 30
_COLOURS = {"running": "cyan", "complete": "green", "pruned": "yellow", "failed": "red"}


class SweepView:
    """Shows the trials.

    Args:
        config: the search space.
        epochs: epochs of a whole trial.
        trials: the record, which grows.
        say: told a line for every trial that ends, where there is no terminal.
        stream: where the table goes.
    """

    def __init__(
        self,
        config: SpaceConfig,
        epochs: int,
        trials: Sequence[Entry],
        say: Callable[[str], None],
        stream: TextIO = sys.stderr,
    ) -> None:
        self._config, self._epochs, self._trials, self._say = config, epochs, trials, say
        console = Console(file=stream)
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> SweepView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, ended: Entry | None) -> None:
        """Show the record as it is now."""
        if self._live is not None:
            self._live.update(self.table(), refresh=True)
        if ended is not None:
            self._say(self.line(ended))

    def line(self, entry: Entry) -> str:
        """Return an ended trial in one line."""
        done = sum(trial.state != "running" for trial in self._trials)
        value = f"{self._config.objective.metric} {_number(_latest(entry))}"
        cause = f" ({entry.cause})" if entry.state == "failed" else ""
        what = f"{entry.state}{cause} after {entry.epoch} epochs"
        why = f"; {entry.reason}" if entry.state == "failed" else ""
        return f"[{done}/{self._config.trials}] trial {entry.number}: {what}, {value}, {_params(entry)}{why}"

    def table(self) -> Table:
        """Return the latest trials, and the best so far."""
        keys = list(self._config.search)
        table = Table(title=summary(self._trials, self._config), title_justify="left")
        for name in ("trial", "state", "epoch", self._config.objective.metric, *keys):
            table.add_column(name, justify="left" if name == "state" else "right")
        for entry in self._trials[-_ROWS:]:
            state = entry.cause if entry.state == "failed" else entry.state
            table.add_row(
                str(entry.number),
                f"[{_COLOURS[entry.state]}]{state}",
                f"{entry.epoch}/{self._epochs}",
                _number(_latest(entry)),
                *(_number(entry.params.get(key)) for key in keys),
            )
        return table


def best_of(trials: Sequence[Entry], config: SpaceConfig) -> Entry | None:
    """Return the complete trial with the best value at its last epoch; of equals, the first."""
    complete = [entry for entry in trials if entry.state == "complete" and entry.value is not None]
    sign = -1.0 if config.objective.direction == "maximize" else 1.0
    return min(complete, key=lambda entry: (sign * (entry.value or 0.0), entry.number), default=None)


def summary(trials: Sequence[Entry], config: SpaceConfig) -> str:
    """Return how the sweep stands in one line."""
    count = Counter[str](entry.state for entry in trials)
    states = ", ".join(f"{count[state]} {state}" for state in _COLOURS if count[state])
    best = best_of(trials, config)
    found = f"; best: trial {best.number}, {config.objective.metric} {_number(best.value)}" if best else ""
    return f"{len(trials)} of {config.trials} trials: {states or 'none yet'}{found}"


def _latest(entry: Entry) -> float | None:
    if entry.value is not None:
        return entry.value
    curve = entry.curve
    return curve[max(curve)] if curve else None


def _params(entry: Entry) -> str:
    return " ".join(f"{key}={_number(value)}" for key, value in entry.params.items())


def _number(value: Scalar) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
