"""How a sweep looks while it goes: a live table on a terminal, a line per ended trial otherwise."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from raysl.tune.agenda import is_searched
from raysl.tune.choice import best_of
from raysl.tune.records.entry import Entry
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig

_ROWS = 30
_COLOURS = {"running": "cyan", "complete": "green", "pruned": "yellow", "failed": "red"}


class SweepView:
    """Shows the trials.

    Args:
        space: the search space.
        trials: the record, which grows.
        say: told a line for every trial that ends, where there is no terminal.
        stream: where the table goes.
    """

    def __init__(
        self, space: Space, trials: Sequence[Entry], say: Callable[[str], None], stream: TextIO = sys.stderr
    ) -> None:
        self._space, self._config, self._trials, self._say = space, space.config, trials, say
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
        done = sum(trial.state != "running" and is_searched(trial) for trial in self._trials)
        value = f"{self._config.target.metric} {number_text(_latest(entry))}"
        cause = f" ({entry.cause})" if entry.state == "failed" else ""
        what = f"{entry.state}{cause} after {entry.epoch} epochs"
        why = f"; {entry.reason}" if entry.state == "failed" else ""
        return f"[{done}/{self._config.trials}] {name_of(entry)}: {what}, {value}, {_params(entry)}{why}"

    def table(self) -> Table:
        """Return the latest trials, and the best so far."""
        keys = list(self._config.search)
        table = Table(title=summary(self._trials, self._config), title_justify="left")
        for name in ("trial", "state", "epoch", self._config.target.metric, *keys):
            table.add_column(name, justify="left" if name == "state" else "right")
        for entry in self._trials[-_ROWS:]:
            state = entry.cause if entry.state == "failed" else entry.state
            table.add_row(
                str(entry.number),
                f"[{_COLOURS[entry.state]}]{state}",
                f"{entry.epoch}/{self._space.epochs_of(entry.role.fidelity)}",
                number_text(_latest(entry)),
                *(number_text(entry.params.get(key)) for key in keys),
            )
        return table


def summary(trials: Sequence[Entry], config: SpaceConfig) -> str:
    """Return how the sweep stands in one line."""
    count = Counter[str](entry.state for entry in trials)
    states = ", ".join(f"{count[state]} {state}" for state in _COLOURS if count[state])
    best = best_of(trials, config)
    found = f"; best: trial {best.number}, {config.target.metric} {number_text(best.value)}" if best else ""
    searched = sum(map(is_searched, trials))
    again = f" and {len(trials) - searched} again" if len(trials) > searched else ""
    return f"{searched} of {config.trials} trials{again}: {states or 'none yet'}{found}"


def name_of(entry: Entry) -> str:
    """Return what a trial is called, with what it is for."""
    role = entry.role
    if role.kind == "repeat":
        return f"trial {entry.number} (trial {role.of}, seed +{role.seed})"
    if role.kind == "promotion":
        return f"trial {entry.number} (trial {role.of}, promoted)"
    return f"trial {entry.number}"


def _latest(entry: Entry) -> float | None:
    if entry.value is not None:
        return entry.value
    curve = entry.curve
    return curve[max(curve)] if curve else None


def _params(entry: Entry) -> str:
    return " ".join(f"{key}={number_text(value)}" for key, value in entry.params.items())


def number_text(value: Scalar) -> str:
    """Return a value for people."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
