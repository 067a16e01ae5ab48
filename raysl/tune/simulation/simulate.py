"""A sweep without training: the real searcher and rules over recorded curves, on a clock of its own."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna.storages import InMemoryStorage

from raysl.config import leaves
from raysl.errors import InputError, RayslError
from raysl.tune.agenda import Answer
from raysl.tune.bridge import Bridge
from raysl.tune.judging.rungs import rule_of
from raysl.tune.records.entry import Entry, Session
from raysl.tune.records.lease import Unshared
from raysl.tune.records.ledger import Ledger
from raysl.tune.simulation.curves import Curves, Recorded
from raysl.tune.spaces.resolve import Space
from raysl.tune.trials.messages import End, Launch, Row

GAP_S = 0.02
"""Seconds between a trial's end and the launch of the next in the same process."""


@dataclass(frozen=True)
class Simulated:
    """A simulated sweep.

    Args:
        trials: its record; times are seconds of the simulated clock.
        wall_s: how long it would have taken.
        spent: epochs spent in all when each trial ended, by number.
        distances: how far each suggestion was from the recorded trial that answered for it.
    """

    trials: Sequence[Entry]
    wall_s: float
    spent: dict[int, int]
    distances: dict[int, float]

    @property
    def epochs(self) -> int:
        """Epochs spent in all."""
        return sum(entry.epoch for entry in self.trials)

    def epochs_to(self, value: float, maximize: bool) -> int | None:
        """Return the epochs spent until a trial had completed with an objective this good, if one did."""
        good = [
            self.spent[entry.number] for entry in self.trials
            if entry.value is not None and (entry.value >= value if maximize else entry.value <= value)
        ]  # fmt: skip
        return min(good, default=None)


def simulate(
    space: Space,
    curves: Curves,
    slots: int,
    *,
    gap_s: float = GAP_S,
    until: Callable[[Entry], bool] | None = None,
) -> Simulated:
    """Run a sweep against recorded curves.

    Args:
        space: the search space. It must have no proxy and measure no luck (`noise.seeds: 1`), because the
            table has one curve for each configuration.
        curves: recorded trials.
        slots: trials at a time.
        gap_s: seconds between a trial's end and the next one's launch.
        until: told of every trial that ends; once it says so, the sweep is left as it is then.

    Raises:
        InputError: the space cannot be simulated, or asks for what was not recorded.
    """
    _check(space, curves)
    return _Clockwork(space, curves, slots, gap_s).run(until or (lambda entry: False))


def _check(space: Space, curves: Curves) -> None:
    config = space.config
    if config.proxy:
        raise InputError("proxy: a table of curves has no cheaper forms of its trials; leave proxy out")
    if config.noise.seeds > 1:
        raise InputError(
            f"noise.seeds = {config.noise.seeds}: the table has one curve for each configuration; "
            "set noise.seeds=1"
        )
    if space.epochs > curves.epochs:
        raise InputError(
            f"epochs = {space.epochs}: the recorded trials have {curves.epochs}; "
            f"set epochs={curves.epochs} or less"
        )
    known = set(leaves_of(space)) | space.variables
    strange = [key for key in curves.keys if key not in known]
    if strange:
        raise InputError(
            f"the table was recorded over {', '.join(strange)}, which {', '.join(config.base)} has not"
        )
    for metric in [one.metric for one in config.objective]:
        if metric not in curves.trials[0].metrics[space.epochs - 1]:
            raise InputError(f"objective.metric = {metric!r}: not in the table of curves")


def leaves_of(space: Space) -> list[str]:
    """Return the dotted keys of a space's recipe."""
    return [key for key, _ in leaves(space.base.to_dict())]


@dataclass
class _Clockwork:
    """Stands where Ray Tune does."""

    space: Space
    curves: Curves
    slots: int
    gap_s: float
    now: float = 0.0
    events: list[tuple[float, int, str]] = field(default_factory=list)
    running: dict[str, tuple[Launch, Recorded]] = field(default_factory=dict)
    spent: dict[int, int] = field(default_factory=dict)
    distances: dict[int, float] = field(default_factory=dict)

    def run(self, until: Callable[[Entry], bool]) -> Simulated:
        config = self.space.config
        ledger = Ledger(InMemoryStorage(), "simulated", self.space, Unshared(), lambda: self.now)
        ledger.open_session(Session(0.0, self.slots, 1.0, 0.0))
        rule = rule_of(config, self.space.epochs)
        with tempfile.TemporaryDirectory() as folder:
            bridge = Bridge(ledger, self.space, rule, Path(folder), self.slots)
            self._fill(bridge)
            while self.events:
                self.now, _, key = heapq.heappop(self.events)
                ended = self._report(bridge, key)
                if ended is not None and until(ended):
                    break
                self._fill(bridge)
        if bridge.fatal is not None:
            raise bridge.fatal if isinstance(bridge.fatal, RayslError) else RayslError(repr(bridge.fatal))
        return Simulated(ledger.trials, self.now, self.spent, self.distances)

    def _fill(self, bridge: Bridge) -> None:
        while True:
            key = f"{len(bridge.ledger.trials)}-{len(self.events)}-{self.now}"
            launch = bridge.next(key)
            if isinstance(launch, Answer):
                return
            params = bridge.ledger.trials[launch.number].params
            found, distance = self.curves.nearest(dict(leaves(launch.config.to_dict())) | params)
            self.distances[launch.number] = distance
            self.running[key] = launch, found
            self._schedule(key, 1, self.gap_s)

    def _schedule(self, key: str, epoch: int, gap_s: float) -> None:
        _, found = self.running[key]
        heapq.heappush(self.events, (self.now + gap_s + found.seconds[epoch - 1], epoch, key))

    def _report(self, bridge: Bridge, key: str) -> Entry | None:
        """Report a trial's next epoch, and return the trial if it ended with it."""
        launch, found = self.running[key]
        epoch = bridge.ledger.trials[launch.number].epoch + 1
        message: Row | End = Row(epoch, self.now, found.metrics[epoch - 1])
        if bridge.stop_file.exists():
            message = End("interrupted", "the sweep was told to stop")
        if bridge.receive(key, launch.number, launch.fence, message):
            self.spent[launch.number] = sum(entry.epoch for entry in bridge.ledger.trials)
            del self.running[key]
            return bridge.ledger.trials[launch.number]
        self._schedule(key, epoch + 1, 0.0)
        return None
