"""Epochs to a good configuration, on recorded curves: raysl, random search, Ray's OptunaSearch with ASHA.

Each is run for many seeds on a simulated clock; see `python -m benchmarks.sweep replay --help`.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from raysl.config import leaves
from raysl.tune.records.entry import Entry
from raysl.tune.samplers.suggest import suggest
from raysl.tune.samplers.suggestion import quiet_optuna
from raysl.tune.simulation.curves import Curves, Recorded, read_curves
from raysl.tune.simulation.simulate import GAP_S, simulate
from raysl.tune.spaces.domains import CategoricalDomain, Domain, IntDomain
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
_EXPLAINED = 0.1
_WHO = ("raysl", "random", "Ray's own")
_HEADS = {
    "worth": "what a regression over the recorded trials says, and the luck of one of them:",
    "recorded": "the recorded trials themselves, the nearest one answering:",
}


class Surrogate(Curves):
    """Recorded curves and what lies between them, so that luck is told from merit.

    The best of 72 single trials is the luckiest of the good ones, and a table of them has its optimum where
    nobody could look for it. So what a configuration is worth is the mean of a Gaussian process over all
    recorded trials, one for each epoch (Matern 5/2, a length scale for each key and the noise by maximum
    likelihood; no length is shorter than what lies between so many trials). What a trial of it measures is
    that and the luck of some recorded trial: its distance from the mean, epoch by epoch, scaled to the noise,
    of which a fit swallows some.
    """

    def __init__(self, trials: Sequence[Recorded], search: Mapping[str, Domain]) -> None:
        super().__init__(trials)
        self._search = search
        self._at = np.array([_place(search, trial.params) for trial in trials])
        curves = np.array([[row[KNN] for row in trial.metrics] for trial in trials])
        self._fits = [self._fit(values) for values in curves.T]
        luck = [self._luck(fit, values) for fit, values in zip(self._fits, curves.T, strict=True)]
        self._lucks = np.array(luck).T
        self.explained = _explained(self._fits[-1], self._at, curves[:, -1])

    def _fit(self, values: NDArray[np.float64]) -> GaussianProcessRegressor:
        count, keys = self._at.shape
        kernel = ConstantKernel() * Matern(np.full(keys, 0.5), (count ** (-1 / keys), 100.0), nu=2.5)
        kernel += WhiteKernel(0.5, (0.05, 10.0))
        with warnings.catch_warnings():
            # A length at its bound is a key that nothing depends on.
            warnings.simplefilter("ignore")
            model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
            return model.fit(self._at, values)

    def _luck(self, fit: GaussianProcessRegressor, values: NDArray[np.float64]) -> NDArray[np.float64]:
        apart = values - fit.predict(self._at)
        noise = math.sqrt(fit.kernel_.k2.noise_level) * values.std()
        found: NDArray[np.float64] = apart * noise / apart.std()
        return found

    def worth(self, params: Mapping[str, Any]) -> list[float]:
        """Return the expected objective of a configuration at each epoch."""
        at = _place(self._search, params)[None]
        return [float(fit.predict(at)[0]) for fit in self._fits]

    def nearest(self, params: Mapping[str, Any]) -> tuple[Recorded, float]:
        """Return what a trial of a configuration measures, and how far the nearest recorded one is."""
        found, distance = super().nearest(params)
        # Luck is not where a configuration is: the next one beside it has another.
        row = zlib.crc32(repr(sorted(params.items())).encode()) % len(self.trials)
        curve = self.worth(params) + self._lucks[row]
        metrics = [{**old, KNN: float(new)} for old, new in zip(found.metrics, curve, strict=True)]
        return Recorded(found.trial, found.params, metrics, found.seconds), distance


class AsRecorded(Curves):
    """Recorded curves as they are: the nearest trial answers, luck and all."""

    def worth(self, params: Mapping[str, Any]) -> list[float]:
        """Return the objective of the nearest trial at each epoch."""
        return [row[KNN] for row in self.nearest(params)[0].metrics]


def _place(search: Mapping[str, Domain], params: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return where a configuration is, each key from 0 to 1; words are one key for each choice."""
    found: list[float] = []
    for key, domain in search.items():
        value = params[key]
        if not isinstance(domain, CategoricalDomain):
            low, high, scale = domain.low, domain.high, math.log if domain.log else float
        elif numbers := [choice for choice in domain.choices if isinstance(choice, int | float)]:
            low, high, scale = min(numbers), max(numbers), math.log
        else:
            found += [float(value == choice) for choice in domain.choices]
            continue
        found.append((scale(value) - scale(low)) / (scale(high) - scale(low)))
    return np.array(found)


def _explained(fit: GaussianProcessRegressor, at: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the share of the variance of left-out trials that the others explain; not below 0."""
    inverse = np.linalg.inv(fit.kernel_(at))
    centred = values - values.mean()
    apart = (inverse @ centred) / np.diag(inverse)
    return max(0.0, 1.0 - float(np.mean(apart**2)) / float(np.var(values)))


@dataclass(frozen=True)
class Case:
    """A recorded table and what was searched.

    Args:
        space: the search space.
        curves: the table.
        goal: the worth to reach: half a point below the best.
    """

    space: Space
    curves: Surrogate | AsRecorded
    goal: float

    @property
    def epochs(self) -> int:
        """Epochs of a whole trial."""
        return self.space.epochs

    def is_good(self, params: Mapping[str, Any]) -> bool:
        """Tell whether a configuration is within reach of the best."""
        return self.curves.worth(params)[self.epochs - 1] >= self.goal

    def is_found(self, entry: Entry) -> bool:
        """Tell whether a trial completed within reach of the best."""
        return entry.state == "complete" and self.is_good(entry.params)


@cache
def load_case(name: str, how: str) -> Case:
    """Load a recorded table and the space it was recorded over.

    Args:
        name: of the table.
        how: `worth` or `recorded`; which of the two stands in for training.
    """
    space = Space(load_space(HERE / "spaces" / f"{name}.yaml"))
    trials = read_curves(HERE / "curves" / f"{name}.parquet").trials
    curves: Surrogate | AsRecorded
    if how == "worth":
        curves = Surrogate(trials, space.config.search)
        looked_at = [suggest(space, number, []).params for number in range(_DRAWS)]
    else:
        curves, looked_at = AsRecorded(trials), [trial.params for trial in trials]
    best = max(curves.worth(params)[space.epochs - 1] for params in looked_at)
    return Case(space, curves, best - WITHIN)


def ours(case: Case, seed: int, stopping: dict[str, Any]) -> int:
    """Return the epochs that raysl spends until a trial completes within reach of the best."""
    return _simulated(case, {"name": "tpe", "seed": seed}, stopping)


def at_random(case: Case, seed: int) -> int:
    """Return the epochs that random search without stopping spends."""
    return _simulated(case, {"name": "random", "seed": seed}, {"rule": "none"})


def _simulated(case: Case, sampler: dict[str, Any], stopping: dict[str, Any]) -> int:
    values = case.space.config.to_dict() | {"sampler": sampler, "stopping": stopping, "trials": _TRIALS}
    space = Space(SpaceConfig.model_validate(values))
    return simulate(space, case.curves, SLOTS, until=case.is_found).epochs


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
    print(f"epochs until a trial completed within {WITHIN} points of the best; median of {seeds} seeds")
    missed = 0
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for how in ("worth", "recorded"):
            print(_HEADS[how])
            print(
                f"{'table':<22}{'raysl':>8}{'random':>8}{'ratio':>7}{'Ray own':>9}{'excess, 95 % upper':>20}"
            )
            for name in names:
                curves = load_case(name, how).curves
                if isinstance(curves, Surrogate) and curves.explained < _EXPLAINED:
                    print(
                        f"{name:<22} the keys explain {curves.explained:.0%} of it: there is nothing to find"
                    )
                    continue
                runs = [(name, how, who, seed, min_epochs, factor) for who in _WHO for seed in range(seeds)]
                spent = list(pool.map(_run, runs))
                mine, blind, theirs = (spent[at * seeds : (at + 1) * seeds] for at in range(3))
                ratio = statistics.median(blind) / statistics.median(mine)
                upper = _upper_excess(mine, theirs)
                missed += ratio < 3.0 or upper > 0.05
                print(
                    f"{name:<22}{statistics.median(mine):>8.0f}{statistics.median(blind):>8.0f}{ratio:>6.1f}x"
                    f"{statistics.median(theirs):>9.0f}{upper:>+19.1%}",
                    flush=True,
                )
    return 1 if missed else 0


def _run(run: tuple[str, str, str, int, int, int]) -> int:
    name, how, who, seed, min_epochs, factor = run
    case = load_case(name, how)
    match who:
        case "raysl":
            rule = {"rule": "successive_halving", "min_epochs": min_epochs, "reduction_factor": factor}
            return ours(case, seed, rule)
        case "random":
            return at_random(case, seed)
    return rays_own(case, seed, min_epochs, factor)


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
