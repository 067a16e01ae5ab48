"""Suggestions: functions of seed, number and record; what failures do to later ones."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe import sampler

from raysl.errors import InputError
from raysl.tune.entry import Entry, Report, State
from raysl.tune.resolve import Space
from raysl.tune.space import Scalar
from raysl.tune.suggest import distribution, suggest
from tests.tune.conftest import space


def entry(
    built: Space, number: int, params: dict[str, Scalar], state: State, value: float, cause: str = ""
) -> Entry:
    domains: dict[str, BaseDistribution] = {key: distribution(built.config.search[key]) for key in params}
    found = Entry(number, params, domains, state=state, cause=cause or state)
    epochs = built.epochs if state == "complete" else 1
    found.reports = [Report(epoch, value, 0.0, 1, {}) for epoch in range(1, epochs + 1)]
    found.value = value if state == "complete" else None
    return found


def record(built: Space, count: int) -> list[Entry]:
    """Trials as random suggestions that are better the lower the temperature."""
    trials: list[Entry] = []
    for number in range(count):
        params = suggest(built, number, trials).params
        trials.append(entry(built, number, params, "complete", -float(str(params["method.temperature"]))))
    return trials


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_the_same_question_has_the_same_answer(name: str) -> None:
    built = Space(space(sampler={"name": name, "seed": 5, "n_startup_trials": 3}))
    trials = record(built, 8)
    first = suggest(built, 8, trials)
    assert suggest(Space(built.config), 8, trials) == first
    assert suggest(built, 9, trials).params != first.params
    other = Space(
        built.config.model_copy(update={"sampler": built.config.sampler.model_copy(update={"seed": 6})})
    )
    assert suggest(other, 8, trials).params != first.params


def test_random_does_not_look_at_the_record_and_tpe_does() -> None:
    for name, looks in (("random", False), ("tpe", True)):
        built = Space(space(sampler={"name": name, "seed": 5, "n_startup_trials": 3}))
        trials = record(built, 8)
        assert (suggest(built, 8, trials) != suggest(built, 8, [])) is looks


def test_suggestions_obey_domains_conditions_and_constraints() -> None:
    built = Space(
        space(
            search={
                "optimizer.name": {"type": "categorical", "choices": ["sgd", "adam"]},
                "optimizer.momentum": {
                    "type": "float",
                    "low": 0.5,
                    "high": 0.9,
                    "when": {"optimizer.name": "sgd"},
                },
                "optimizer.lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
                "train.batch_size": {"type": "int", "low": 32, "high": 256, "step": 32},
            },
            overrides={},
            constraints=["optimizer.name == 'adam' or optimizer.lr > 0.01"],
        )
    )
    trials: list[Entry] = []
    rejected = 0
    for number in range(12):
        found = suggest(built, number, trials)
        params = found.params
        assert ("optimizer.momentum" in params) == (params["optimizer.name"] == "sgd")
        assert int(str(params["train.batch_size"])) % 32 == 0
        assert params["optimizer.name"] == "adam" or float(str(params["optimizer.lr"])) > 0.01
        rejected += found.rejected
        trials.append(entry(built, number, params, "complete", float(number)))
    assert rejected > 0


def test_constraints_that_leave_nothing_are_an_error() -> None:
    built = Space(space(constraints=["optimizer.lr > 1"]))
    with pytest.raises(InputError, match="suggestions in a row were refused"):
        suggest(built, 0, [])


@pytest.mark.parametrize(
    ("cause", "repels"), [("nan", True), ("collapse", True), ("error", True), ("killed", False)]
)
def test_failures_that_parameters_are_to_blame_for_repel(cause: str, repels: bool) -> None:
    """Of two equally good choices, failures of one send later suggestions to the other."""
    domain = {"type": "categorical", "choices": ["sgd", "adam"]}
    built = Space(space(search={"optimizer.name": domain}, sampler={"seed": 1, "n_startup_trials": 4}))

    def at(number: int, name: str, state: State, value: float, cause: str = "") -> Entry:
        return entry(built, number, {"optimizer.name": name}, state, value, cause)

    good = [
        at(number, ("sgd", "adam")[number % 2], "complete", 0.9 - 0.1 * (number > 1)) for number in range(12)
    ]
    failed = [at(12 + step, "sgd", "failed", 0.0, cause) for step in range(8)]

    def share(trials: list[Entry]) -> float:
        found = [suggest(built, 20 + n, trials).params["optimizer.name"] for n in range(40)]
        return found.count("sgd") / len(found)

    before, after = share(good), share(good + failed)
    assert before > 0.3
    assert (after < before / 2) if repels else (after == before)


def test_what_tpe_imitates_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more failures than anything else, the good group still is made of complete and pruned trials."""
    good: list[int] = []
    split = sampler._split_trials

    def spy(*args: Any) -> Any:
        below, above = split(*args)
        good.extend(trial.number for trial in below)
        return below, above

    monkeypatch.setattr(sampler, "_split_trials", spy)
    built = Space(space(sampler={"seed": 1, "n_startup_trials": 4}))
    states: list[State] = ["complete", "pruned", *["failed"] * 18]  # type: ignore[list-item]
    params: dict[str, Scalar] = {"optimizer.lr": 1e-3, "method.temperature": 0.5}
    trials = [
        entry(built, number, params, state, 0.5, "nan" if state == "failed" else "")
        for number, state in enumerate(states)
    ]
    suggest(built, len(trials), trials)
    assert set(good) == {0, 1}


def test_sampler_options_reach_the_sampler_and_wrong_ones_are_refused() -> None:
    built = Space(space(sampler={"name": "tpe", "options": {"n_ei_candidatez": 3}}))
    with pytest.raises(InputError, match="n_ei_candidates"):
        suggest(built, 0, [])
    built = Space(space(sampler={"name": "tpe", "n_startup_trials": 2, "options": {"n_ei_candidates": 1}}))
    trials = record(built, 6)
    usual = Space(space(sampler={"name": "tpe", "n_startup_trials": 2}))
    assert suggest(built, 6, trials).params != suggest(usual, 6, trials).params
