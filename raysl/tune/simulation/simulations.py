"""The same sweep simulated with several seeds of its sampler, and what that says about its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from raysl.errors import InputError
from raysl.report.text import age, number, render, table
from raysl.tune.choice import best_of
from raysl.tune.simulation.curves import Curves
from raysl.tune.simulation.simulate import simulate
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig


@dataclass(frozen=True)
class SimulatedSweep:
    """One simulated sweep in numbers.

    Args:
        seed: of the sampler; None for the medians.
        best: the best objective that a trial completed with.
        epochs: spent in all.
        wall_s: how long it would have taken.
        epochs_within: spent until a trial had completed that came so near to the best on record; None where
            none did.
    """

    seed: int | None
    best: float | None
    epochs: float
    wall_s: float
    epochs_within: float | None


@dataclass(frozen=True)
class Simulations:
    """Simulated sweeps.

    Args:
        metric: the first objective.
        recorded: trials in the table.
        best_recorded: the best objective among them.
        within: how near to it counts.
        slots: trials at a time.
        sweeps: one for each seed.
        notes: what was set for the simulation.
    """

    metric: str
    recorded: int
    best_recorded: float
    within: float
    slots: int
    sweeps: tuple[SimulatedSweep, ...]
    notes: tuple[str, ...] = ()

    @property
    def median(self) -> SimulatedSweep:
        """The medians; of the epochs until near the best, only where more than half came there."""
        bests = [one.best for one in self.sweeps if one.best is not None]
        reached = sorted(one.epochs_within for one in self.sweeps if one.epochs_within is not None)
        # A seed that never came there counts as later than all others.
        half = len(self.sweeps) // 2
        within = None
        if len(reached) > half:
            within = reached[half] if len(self.sweeps) % 2 else (reached[half - 1] + reached[half]) / 2
        return SimulatedSweep(
            None,
            median(bests) if bests else None,
            median(one.epochs for one in self.sweeps),
            median(one.wall_s for one in self.sweeps),
            within,
        )

    def describe(self) -> str:
        """Return a table."""
        made = table("seed", "best", "epochs", "wall time", f"epochs to within {self.within:g}")
        for one in [*self.sweeps, *([self.median] if len(self.sweeps) > 1 else [])]:
            made.add_row(
                "median" if one.seed is None else str(one.seed),
                number(one.best),
                f"{one.epochs:g}",
                age(one.wall_s),
                "never" if one.epochs_within is None else f"{one.epochs_within:g}",
            )
        head = (
            f"{self.metric}: best of {self.recorded} recorded trials {number(self.best_recorded)}; "
            f"{self.slots} at a time"
        )
        return "\n".join([*self.notes, head, render(made)])


def simulate_seeds(
    config: SpaceConfig,
    curves: Curves,
    *,
    slots: int | None = None,
    seeds: int = 1,
    within: float = 0.5,
    say: Callable[[str], None] = lambda line: None,
) -> Simulations:
    """Simulate a sweep with the sampler's seeds 0, 1, ... over recorded curves.

    Args:
        config: the search space. Luck is not measured: the table has one curve for each configuration.
        curves: recorded trials.
        slots: trials at a time; the space's `concurrent`, else 1.
        seeds: how many.
        within: how near to the best on record counts, in the objective's unit.
        say: told of each seed.

    Raises:
        InputError: the space cannot be simulated, or asks for what was not recorded.
    """
    for name, value in (("--seeds", seeds), ("--slots", slots)):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}: expected 1 or more")
    if within < 0.0:
        raise InputError(f"--within {within:g}: expected 0 or more")
    slots = slots or config.concurrent or 1
    notes = []
    if config.noise.seeds > 1 or (config.noise.best_seeds or 1) > 1:
        notes.append("noise.seeds = 1 here: the table has one curve for each configuration")
        noise = config.noise.model_copy(update={"seeds": 1, "best_seeds": None})
        config = config.model_copy(update={"noise": noise})
    maximize = config.target.direction == "maximize"
    found, best = list[SimulatedSweep](), None
    for seed in range(seeds):
        sampler = config.sampler.model_copy(update={"seed": seed})
        space = Space(config.model_copy(update={"sampler": sampler}))
        swept = simulate(space, curves, slots)
        best = _best_recorded(curves, config.target.metric, space.epochs, maximize)
        top = best_of(swept.trials, config)
        goal = best - within if maximize else best + within
        near = swept.epochs_to(goal, maximize)
        found.append(
            SimulatedSweep(seed, None if top is None else top.value, swept.epochs, swept.wall_s, near)
        )
        say(f"seed {seed}: {swept.epochs} epochs")
    return Simulations(
        config.target.metric, len(curves.trials), best or 0.0, within, slots, tuple(found), tuple(notes)
    )


def _best_recorded(curves: Curves, metric: str, epochs: int, maximize: bool) -> float:
    measured = [trial.metrics[epochs - 1].get(metric, math.nan) for trial in curves.trials]
    values = [value for value in measured if math.isfinite(value)]
    if not values:
        raise InputError(f"the table has no finite {metric} at epoch {epochs}; set epochs to one that it has")
    return max(values) if maximize else min(values)
