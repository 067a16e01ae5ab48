"""What samplers make of failed, killed, pruned and running trials: where their later suggestions fall."""

from __future__ import annotations

from typing import Any

import pytest
from optuna._gp import acqf
from optuna.samplers._tpe import sampler
from optuna.trial import TrialState

from raysl.tune.records.entry import Entry, State
from raysl.tune.samplers.evolution import Evolution
from raysl.tune.samplers.shown import as_complete, fate, for_tpe, ranks
from raysl.tune.samplers.suggest import suggest
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.sampler_config import CMAESConfig
from tests.tune.records import Fate, Judge, made, sampled, swept

LEARNING = ("tpe", "gp", "cmaes", "nsga2")
CUBE = {
    "method.temperature": {"type": "float", "low": 0.0001, "high": 1.0},
    "optimizer.lr": {"type": "float", "low": 0.0001, "high": 1.0},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 4},
    "cmaes": {"population_size": 8},
    "nsga2": {"population_size": 8, "mutation_prob": 0.1},
}


def cube(name: str, seed: int = 3) -> Space:
    return sampled(name, seed, search=CUBE, sampler=SETTINGS.get(name, {}))


def temperature(params: dict[str, Scalar]) -> float:
    return float(str(params["method.temperature"]))


def record(name: str, judge: Judge) -> list[Entry]:
    """A record of 24 trials: spread by chance where the sampler keeps nothing with them, else its own."""
    return swept(cube(name if name in {"cmaes", "nsga2"} else "random"), 24, judge)


def share(name: str, trials: list[Entry]) -> float:
    """The share of later suggestions, by independent seeds, in the lower half of the temperatures."""
    count = 10 if name == "gp" else 40
    found = [suggest(cube(name, seed), 24 + seed, trials).params for seed in range(count)]
    return sum(temperature(params) < 0.5 for params in found) / count


def alike(number: int, params: dict[str, Scalar]) -> Fate:
    """Complete, with a value that says nothing about the parameters."""
    return Fate("complete", (0.5 + 0.1 * (number * 0.37 % 1.0),))


def low_half(end: Fate) -> Judge:
    return lambda number, params: end if temperature(params) < 0.5 else alike(number, params)


@pytest.mark.parametrize("name", LEARNING)
def test_failures_that_parameters_are_to_blame_for_repel(name: str) -> None:
    without = share(name, record(name, alike))
    assert without > 0.15
    assert share(name, record(name, low_half(Fate("failed", (), "collapse", 1)))) < without / 2


@pytest.mark.parametrize("cause", ["nan", "inf", "collapse", "divergence", "oom", "error", "killed"])
def test_whom_a_failure_is_put_down_to(cause: str) -> None:
    params: dict[str, Scalar] = {"optimizer.lr": 1e-3, "method.temperature": 0.5}
    failed = made(cube("tpe"), 0, params, Fate("failed", (0.5,), cause, 1))
    assert fate(failed) == ("unknown" if cause == "killed" else "failed")


@pytest.mark.parametrize("name", LEARNING)
def test_pruned_trials_repel(name: str) -> None:
    """Even where what was measured last before they were stopped was better than all that completed."""
    assert share(name, record(name, low_half(Fate("pruned", (0.3,), epochs=1)))) < 0.25
    early = low_half(Fate("pruned", (0.9,), epochs=1))
    assert share(name, record(name, early)) < (0.25 if name in {"tpe", "cmaes"} else 0.7)


@pytest.mark.parametrize("name", LEARNING)
def test_killed_trials_say_nothing(name: str) -> None:
    trials = record(name, alike)
    killed = [
        made(cube(name), 24 + place, {"method.temperature": 0.2, "optimizer.lr": 0.1 * place + 0.05}, end)
        for place, end in enumerate([Fate("failed", (0.9,), "killed", 3)] * 8)
    ]
    for number in range(40, 44):
        assert suggest(cube(name), number, trials + killed) == suggest(cube(name), number, trials)


@pytest.mark.parametrize("name", LEARNING)
def test_running_trials(name: str) -> None:
    """TPE and GP (from Optuna 5 on) keep away from what is running; the others wait for it."""
    looks = name == "tpe" or (name == "gp" and hasattr(acqf, "qLogEI"))
    trials = record(name, lambda number, params: Fate("complete", (-((temperature(params) - 0.3) ** 2),)))
    running = [
        made(cube(name), 24 + place, {"method.temperature": 0.3, "optimizer.lr": lr}, Fate("running", (0.0,)))
        for place, lr in enumerate([0.1, 0.3, 0.5, 0.7, 0.9])
    ]

    def near(trials: list[Entry]) -> float:
        found = [suggest(cube(name, seed), 40, trials).params for seed in range(5 if name == "gp" else 30)]
        return sum(abs(temperature(params) - 0.3) for params in found) / len(found)

    before, after = near(trials), near(trials + running)
    assert (after > 1.15 * before) if looks else (after == before)


@pytest.mark.parametrize("name", LEARNING)
def test_samplers_find_what_is_good(name: str) -> None:
    def judge(number: int, params: dict[str, Scalar]) -> Fate:
        lr = float(str(params["optimizer.lr"]))
        return Fate("complete", (-((temperature(params) - 0.7) ** 2) - (lr - 0.2) ** 2,))

    def late(name: str) -> float:
        trials = swept(cube(name), 14 if name == "gp" else 64, judge)
        return sum(float(entry.value or 0.0) for entry in trials[-8:]) / 8

    assert late(name) > 0.25 * late("random")


def test_the_good_that_tpe_imitates_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more failures than anything else, the good group still is made of complete and pruned trials."""
    good: list[int] = []
    split = sampler._split_trials

    def spy(*args: Any) -> Any:
        below, above = split(*args)
        good.extend(trial.number for trial in below)
        return below, above

    monkeypatch.setattr(sampler, "_split_trials", spy)
    states: list[State] = ["complete", "pruned", *["failed"] * 18]  # type: ignore[list-item]
    params: dict[str, Scalar] = {"optimizer.lr": 1e-3, "method.temperature": 0.5}
    built = cube("tpe")
    trials = [
        made(built, number, params, Fate(state, (0.5,), "nan" if state == "failed" else "", 1))
        for number, state in enumerate(states)
    ]
    suggest(built, len(trials), trials)
    assert set(good) == {0, 1}


FATES = {
    "best": Fate("complete", (0.9,)),
    "worst": Fate("complete", (0.5,)),
    "middle": Fate("complete", (0.6,)),
    "promising": Fate("pruned", (0.95,), epochs=1),
    "long": Fate("pruned", (0.2,), epochs=3),
    "short": Fate("pruned", (0.3,), epochs=1),
    "unmeasured": Fate("pruned", (), epochs=0),
    "late": Fate("failed", (0.7,), "collapse", 3),
    "early": Fate("failed", (), "oom", 0),
    "killed": Fate("failed", (0.99,), "killed", 3),
    "running": Fate("running", (0.99,), epochs=2),
}


def fated(direction: str = "maximize") -> tuple[Space, list[Entry]]:
    params: dict[str, Scalar] = {"optimizer.lr": 1e-3, "method.temperature": 0.5}
    built = sampled("random", search=CUBE)
    sign = 1 if direction == "maximize" else -1
    return built, [
        made(built, number, params, end._replace(values=tuple(sign * value for value in end.values)))
        for number, end in enumerate(FATES.values())
    ]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_values_that_stand_for_what_did_not_complete(direction: str) -> None:
    """As gp and nsga2 see them: the median is 0.6, the worst 0.2, and failures are a tenth of 0.7 below."""
    built, trials = fated(direction)
    objective = built.config.target.model_copy(update={"direction": direction})
    shown, bad = as_complete(trials, [objective])
    sign = 1 if direction == "maximize" else -1
    values = [None if trial.values is None else sign * trial.values[0] for trial in shown]
    expected = [0.9, 0.5, 0.6, 0.6, 0.2, 0.3, 0.2, 0.13, 0.13, None]
    assert values == pytest.approx(expected)
    assert sign * bad[0] == pytest.approx(0.13)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_ranks_that_cmaes_is_told(direction: str) -> None:
    built, trials = fated(direction)
    places = ranks(trials, built.config.target.model_copy(update={"direction": direction}))
    named = dict(zip(FATES, range(len(FATES)), strict=True))
    order = ["best", "middle", "worst", "long", "promising", "short", "unmeasured", "late", "early"]
    assert places == {named[name]: place for place, name in enumerate(order)}


def test_what_tpe_is_shown() -> None:
    built, trials = fated()
    shown = dict(
        zip(
            [name for name in FATES if name != "killed"],
            for_tpe(trials, 4, built.config.objective),
            strict=True,
        )
    )
    violated = {name: trial.system_attrs.get("constraints") for name, trial in shown.items()}
    assert violated["late"] == [1.0]
    assert violated["early"] == [4.0]
    assert violated["running"] is None
    assert all(violated[name] == [0.0] for name in ("best", "long", "unmeasured"))
    assert shown["long"].intermediate_values == {3: 0.2}
    assert shown["late"].state == TrialState.PRUNED


def test_cmaes_adapts_generation_by_generation() -> None:
    """Equal from however much of the record it is computed, and unmoved until a generation is whole."""
    built = cube("cmaes")
    config = built.config.sampler
    assert isinstance(config, CMAESConfig)
    trials = swept(built, 20, lambda number, params: Fate("complete", (temperature(params),)))
    generations = [entry.system_attrs["cmaes:generation"] for entry in trials]
    assert generations == [0] * 8 + [1] * 8 + [2] * 4

    def asked(seen: list[Entry]) -> Any:
        return Evolution(config, built, 30, seen).ask(0).system_attrs

    assert asked(trials) == asked(trials[:16]) == asked(trials[15::-1])
    assert asked(trials[:15]) == asked(trials[:8]) != asked(trials[:16])
    high = [temperature(entry.params) for entry in trials[16:]]
    assert sum(high) / 4 > 0.6


def test_a_prior_can_be_a_parent() -> None:
    """Nobody suggested it, so that it has no generation of its own."""
    built = cube("nsga2")
    good: dict[str, Scalar] = {"method.temperature": 0.123, "optimizer.lr": 0.456}
    trials = [made(built, number, good, Fate("complete", (9.0,))) for number in range(8)]
    children = [suggest(built, 8 + number, trials).params for number in range(10)]
    assert sum(child["method.temperature"] == 0.123 for child in children) > 5
