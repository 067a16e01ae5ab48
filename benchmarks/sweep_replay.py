"""Epochs to a good configuration, on recorded curves: raysl, random search, Ray's OptunaSearch with ASHA.

Each is run for many seeds on a simulated clock; see `python -m benchmarks.sweep replay --help`.
"""

from __future__ import annotations

import heapq
import random
import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysl.config import leaves
from raysl.tune.samplers.suggest import suggest
from raysl.tune.samplers.suggestion import quiet_optuna
from raysl.tune.simulation.curves import Curves, Recorded, read_curves
from raysl.tune.simulation.simulate import GAP_S, simulate
from raysl.tune.spaces.domains import CategoricalDomain, IntDomain
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.spaces.space_file import load_space

HERE = Path(__file__).parent
TABLES = ("digits_matrix_ssl", "digits_w_mse", "cifar10_matrix_ssl", "cifar10_w_mse")
KNN = "eval/knn_top1"
WITHIN = 0.5
SLOTS = 4
_TRIALS = 320
_DRAWS = 2000


class Surrogate(Curves):
    """Recorded curves between which it is interpolated, so that luck is told from merit.

    The best of 72 single trials is the luckiest of the good ones, and a table of them has its optimum where
    nobody could look for it. So what a configuration is worth is a kernel regression over all recorded
    trials (Gaussian, the width that predicts left-out trials best), and what a trial of it measures is that
    and the luck of some recorded trial: its distance from the regression, epoch by epoch.
    """

    def __init__(self, trials: Sequence[Recorded]) -> None:
        super().__init__(trials)
        self._curves = np.array([[row[KNN] for row in trial.metrics] for trial in trials])
        self._between = np.array([self.distances(trial.params) for trial in trials])
        ends = self._curves[:, -1]
        apart = np.where(np.eye(len(trials), dtype=bool), np.inf, self._between)
        widths = np.geomspace(0.05, 1.0, 20)
        errors = [float(np.mean((_weights(apart, width) @ ends - ends) ** 2)) for width in widths]
        self.width = float(widths[int(np.argmin(errors))])
        self.explained = 1.0 - min(errors) / float(np.var(ends))
        self._luck = self._curves - _weights(self._between, self.width) @ self._curves

    def worth(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return the expected objective of a configuration at each epoch."""
        found: NDArray[np.float64] = _weights(self.distances(params)[None], self.width)[0] @ self._curves
        return found

    def nearest(self, params: Mapping[str, Any]) -> tuple[Recorded, float]:
        """Return what a trial of a configuration measures, and how far the nearest recorded one is."""
        found, distance = super().nearest(params)
        # Luck is not where a configuration is: the next one beside it has another.
        row = zlib.crc32(repr(sorted(params.items())).encode()) % len(self.trials)
        curve = self.worth(params) + self._luck[row]
        metrics = [{**old, KNN: float(new)} for old, new in zip(found.metrics, curve, strict=True)]
        return Recorded(found.trial, found.params, metrics, found.seconds), distance


def _weights(distances: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (distances / width) ** 2) + 1e-12
    weights[~np.isfinite(distances)] = 0.0
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True)
class Case:
    """A recorded table and what was searched.

    Args:
        name: of the table.
        space: the search space.
        curves: the table.
        goal: the worth to reach: half a point below the best of many configurations.
    """

    name: str
    space: Space
    curves: Surrogate
    goal: float

    @property
    def epochs(self) -> int:
        """Epochs of a whole trial."""
        return self.space.epochs

    def is_good(self, params: Mapping[str, Any]) -> bool:
        """Tell whether a configuration is within reach of the best."""
        return float(self.curves.worth(params)[self.epochs - 1]) >= self.goal


def load_case(name: str) -> Case:
    """Load a recorded table and the space it was recorded over."""
    space = Space(load_space(HERE / "spaces" / f"{name}.yaml"))
    curves = Surrogate(read_curves(HERE / "curves" / f"{name}.parquet").trials)
    draws = [suggest(space, number, []).params for number in range(_DRAWS)]
    best = max(float(curves.worth(params)[space.epochs - 1]) for params in draws)
    return Case(name, space, curves, best - WITHIN)


def ours(case: Case, seed: int, stopping: dict[str, Any]) -> int:
    """Return the epochs that raysl spends until a trial completes within reach of the best."""
    return _simulated(case, {"name": "tpe", "seed": seed}, stopping)


def at_random(case: Case, seed: int) -> int:
    """Return the epochs that random search without stopping spends."""
    return _simulated(case, {"name": "random", "seed": seed}, {"rule": "none"})


def _simulated(case: Case, sampler: dict[str, Any], stopping: dict[str, Any]) -> int:
    trials = 40
    while True:
        # A simulation has no use for what comes after the goal, and suggestions cost more the more there are.
        values = case.space.config.to_dict() | {"sampler": sampler, "stopping": stopping, "trials": trials}
        found = simulate(Space(SpaceConfig.model_validate(values)), case.curves, SLOTS)
        reached = [
            found.spent[entry.number] for entry in found.trials
            if entry.state == "complete" and case.is_good(entry.params)
        ]  # fmt: skip
        if reached:
            return min(reached)
        if trials >= _TRIALS:
            return found.epochs
        trials = min(2 * trials, _TRIALS)


def rays_own(case: Case, seed: int, grace: int, factor: int) -> int:
    """Return the epochs that Ray's OptunaSearch and ASHA spend, driven on the same clock."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
    from ray.tune.search.optuna import OptunaSearch

    np.random.seed(seed)
    with quiet_optuna():
        search = OptunaSearch(_suggestions(case.space.config), metric=KNN, mode="max", seed=seed)
    asha = AsyncHyperBandScheduler(
        time_attr="epoch", metric=KNN, mode="max", max_t=case.epochs, grace_period=grace,
        reduction_factor=factor,
    )  # fmt: skip
    events: list[tuple[float, int]] = []
    asked: dict[int, dict[str, Any]] = {}
    running: dict[int, Any] = {}
    progress: dict[int, int] = {}
    now, spent, number = 0.0, 0, 0
    while True:
        while len(running) < SLOTS and number < _TRIALS:
            with quiet_optuna():
                params = search.suggest(str(number))
            asked[number] = dict(leaves(params or {}))
            running[number], _ = case.curves.nearest(asked[number])
            asha.on_trial_add(None, SimpleNamespace(trial_id=str(number)))  # type: ignore[arg-type]
            progress[number] = 0
            heapq.heappush(events, (now + GAP_S + running[number].seconds[0], number))
            number += 1
        if not events:
            return spent
        now, at = heapq.heappop(events)
        progress[at] += 1
        spent += 1
        value = running[at].metrics[progress[at] - 1][KNN]
        result = {"epoch": progress[at], "training_iteration": progress[at], KNN: value}
        trial: Any = SimpleNamespace(trial_id=str(at))
        with quiet_optuna():
            last = progress[at] >= case.epochs
            stop = asha.on_trial_result(None, trial, result) == TrialScheduler.STOP  # type: ignore[arg-type]
            if last and case.is_good(asked[at]):
                return spent
            if stop or last:
                asha.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
                search.on_trial_complete(str(at), result)
                del running[at]
            else:
                search.on_trial_result(str(at), result)
                heapq.heappush(events, (now + running[at].seconds[progress[at]], at))


def _suggestions(config: SpaceConfig) -> Callable[[Any], None]:
    """Return the space as OptunaSearch takes it: a function that asks a trial for every key."""

    def ask(trial: Any) -> None:
        for key, domain in config.search.items():
            if isinstance(domain, CategoricalDomain):
                trial.suggest_categorical(key, domain.choices)
            elif isinstance(domain, IntDomain):
                trial.suggest_int(key, domain.low, domain.high, log=domain.log)
            else:
                trial.suggest_float(key, domain.low, domain.high, log=domain.log)

    return ask


def compare(names: Sequence[str], seeds: int, min_epochs: int, factor: int) -> int:
    """Print a row for each table and return an exit code: 1 where an aim is missed."""
    stopping = {"rule": "successive_halving", "min_epochs": min_epochs, "reduction_factor": factor}
    print(f"epochs until a trial completed within {WITHIN} points of the best; median of {seeds} seeds")
    print(f"{'table':<22}{'raysl':>8}{'random':>8}{'ratio':>7}{'Ray own':>9}{'excess, 95 % upper':>20}")
    missed = 0
    for name in names:
        case = load_case(name)
        mine = [ours(case, seed, stopping) for seed in range(seeds)]
        blind = [at_random(case, seed) for seed in range(seeds)]
        theirs = [rays_own(case, seed, min_epochs, factor) for seed in range(seeds)]
        ratio = statistics.median(blind) / statistics.median(mine)
        upper = _upper_excess(mine, theirs)
        missed += ratio < 3.0 or upper > 0.05
        print(
            f"{name:<22}{statistics.median(mine):>8.0f}{statistics.median(blind):>8.0f}{ratio:>6.1f}x"
            f"{statistics.median(theirs):>9.0f}{upper:>+19.1%}",
            flush=True,
        )
    return 1 if missed else 0


def _upper_excess(mine: Sequence[int], theirs: Sequence[int], draws: int = 10_000) -> float:
    """Return the bootstrap's 95 % upper bound of mean(mine) / mean(theirs) - 1."""
    draw = random.Random(0)
    count = len(mine)
    ratios = []
    for _ in range(draws):
        left = [mine[draw.randrange(count)] for _ in range(count)]
        right = [theirs[draw.randrange(count)] for _ in range(count)]
        ratios.append(sum(left) / sum(right) - 1.0)
    return sorted(ratios)[int(0.95 * draws)]
