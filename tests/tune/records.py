"""Records of sweeps that never ran: what samplers are given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raysl.tune.records.entry import Entry, Report, State
from raysl.tune.samplers.suggest import suggest
from raysl.tune.samplers.suggestion import distribution
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space


class Fate(NamedTuple):
    """How a trial ends: its state, the cause if it failed, its objectives and how far it came."""

    state: State
    values: tuple[float, ...]
    cause: str = ""
    epochs: int = 2


Judge = Callable[[int, dict[str, Scalar]], Fate]
NAMES = ("tpe", "gp", "cmaes", "nsga2", "qmc", "random", "grid")
# Small enough that a dozen trials lead every sampler beyond its beginning.
SMALL: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 3},
    "gp": {"n_startup_trials": 3},
    "cmaes": {"population_size": 4},
    "nsga2": {"population_size": 3},
}


def sampled(name: str, seed: int = 3, objectives: int = 1, **changes: Any) -> Space:
    """Return a small space with a sampler and so many objectives, `m0`, `m1`, ..., to be maximised."""
    sampler = changes.pop("sampler", SMALL.get(name, {}))
    if name in {"tpe", "gp"}:
        # What it learns is looked at here, not what it leaves to chance.
        sampler = {"random_share": 0.0, **sampler}
    metrics = [{"metric": f"m{number}"} for number in range(objectives)]
    return Space(space(sampler={"name": name, "seed": seed, **sampler}, objective=metrics, **changes))


def made(built: Space, number: int, params: dict[str, Scalar], fate: Fate, attrs: Any = None) -> Entry:
    """Return a trial that ended as it was to; of the fate's values, as many as there are objectives."""
    fate = fate._replace(values=fate.values[: len(built.config.objective)])
    domains = {key: distribution(built.config.search[key]) for key in params}
    entry = Entry(number, params, domains, state=fate.state, cause=fate.cause or fate.state)
    entry.system_attrs = attrs or {}
    metrics = {f"m{place}": value for place, value in enumerate(fate.values)}
    epochs = built.epochs if fate.state == "complete" else fate.epochs
    first = fate.values[0] if fate.values else None
    entry.reports = [Report(epoch, first, 0.0, 1, metrics) for epoch in range(1, epochs + 1)]
    entry.values = fate.values if fate.state == "complete" else None
    return entry


def swept(built: Space, count: int, judge: Judge) -> list[Entry]:
    """Return the record of a sweep of one trial at a time."""
    trials: list[Entry] = []
    for number in range(count):
        found = suggest(built, number, trials)
        fate = judge(number, found.params)
        trials.append(made(built, number, found.params, fate, found.system_attrs))
    return trials


def every_fate(number: int, params: dict[str, Scalar]) -> Fate:
    """Judge so that every six trials have seen everything."""
    value = number * 0.37 % 1.0
    fates = [
        Fate("complete", (value, -value)),
        Fate("pruned", (value, -value)),
        Fate("failed", (float("nan"), 0.0), "nan"),
        Fate("complete", (value, -value)),
        Fate("failed", (), "killed", 0),
        Fate("running", (value, -value), epochs=1),
    ]
    return fates[number % len(fates)]


def written(trials: Sequence[Entry]) -> str:
    """Return a record as JSON, as a ledger keeps it."""
    return json.dumps(
        [
            {
                "number": entry.number,
                "params": entry.params,
                "state": entry.state,
                "cause": entry.cause,
                "values": entry.values,
                "system_attrs": entry.system_attrs,
                "reports": [[report.epoch, report.value, report.metrics] for report in entry.reports],
            }
            for entry in trials
        ]
    )


def read(built: Space, text: str) -> list[Entry]:
    """Return a record from JSON."""
    trials = []
    for row in json.loads(text):
        domains = {key: distribution(built.config.search[key]) for key in row["params"]}
        entry = Entry(row["number"], row["params"], domains, state=row["state"], cause=row["cause"])
        entry.values = None if row["values"] is None else tuple(row["values"])
        entry.system_attrs = row["system_attrs"]
        entry.reports = [Report(epoch, value, 0.0, 1, metrics) for epoch, value, metrics in row["reports"]]
        trials.append(entry)
    return trials
