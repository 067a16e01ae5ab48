"""Samplers by name with their options, sequences and grids, and what is said about them in advance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysl.errors import InputError
from raysl.tune.agenda import Answer, Proposal, propose
from raysl.tune.records.entry import Entry
from raysl.tune.samplers.sequences import SpaceExhaustedError
from raysl.tune.samplers.suggest import capacity, check_sampler, suggest, warnings_for
from raysl.tune.samplers.suggestion import at, level, levels
from raysl.tune.spaces.domains import Domain, FloatDomain, IntDomain
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space_file import load_space
from tests.tune.conftest import space
from tests.tune.records import Fate, every_fate, made, sampled, swept

PAIR = {
    "optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "method.temperature": {"type": "float", "low": 0.1, "high": 1.0},
}
CONDITIONAL = {
    "optimizer.name": {"type": "categorical", "choices": ["sgd", "adam"]},
    "optimizer.momentum": {
        "type": "float", "low": 0.5, "high": 0.9, "step": 0.2, "when": {"optimizer.name": "sgd"}
    },
    "train.batch_size": {"type": "int", "low": 32, "high": 96, "step": 32},
}  # fmt: skip


def of(sampler: Any, **changes: Any) -> Space:
    return Space(space(sampler=sampler, **changes))


@pytest.mark.parametrize(
    ("given", "name", "settings"),
    [
        ("gp", "gp", {"n_startup_trials": 10}),
        ({"n_startup_trials": 8}, "tpe", {"n_startup_trials": 8, "group": True}),
        ({"name": "tpe", "seed": 2, "n_startup_trials": 8}, "tpe", {"seed": 2}),
        ({"name": "qmc", "qmc_type": "halton"}, "qmc", {"scramble": True}),
    ],
)
def test_samplers_are_named(given: Any, name: str, settings: dict[str, Any]) -> None:
    config = of(given).config.sampler
    assert config.name == name
    assert settings.items() <= config.to_dict().items()


def test_another_name_brings_its_own_settings() -> None:
    assert load_space("simclr", ["sampler.name=cmaes"]).sampler.name == "cmaes"
    assert load_space("simclr", ["sampler=nsga2"]).sampler.name == "nsga2"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler=gpp", r"sampler.*: name = 'gpp': expected one of cmaes, .*; did you mean 'gp'\?"),
        ("sampler=3", r"expected a sampler's name, or a mapping with one"),
        (
            "sampler.n_startup_trial=3",
            r"sampler.n_startup_trial = 3: unknown key; did you mean 'n_startup_trials'",
        ),
        ("sampler={name: cmaes, sigma: 2}", r"sampler.sigma = 2: expected less than or equal to 1"),
        ("sampler={name: nsga2, crossover: cut}", r"sampler.crossover = 'cut': expected 'uniform'"),
        (
            "sampler={name: cmaes, separable: true, lr_adapt: true}",
            r"sampler: separable and lr_adapt exclude",
        ),
        ("sampler={name: random, n_startup_trials: 3}", r"sampler.n_startup_trials = 3: unknown key"),
    ],
)
def test_wrong_settings_are_one_line(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_space("simclr", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"name": "tpe", "options": {"consider_endpoint": True}}, "did you mean 'consider_endpoints'"),
        ({"name": "tpe", "options": {"n_ei_candidates": 3}}, "write sampler.n_ei_candidates"),
        ({"name": "random", "options": {"scramble": 1}}, "random has no such option"),
        ({"name": "cmaes", "options": {"popsize": 9}}, "did you mean 'population_size'"),
        ({"name": "tpe", "options": {"gamma": 9}}, "tpe has no such option"),
    ],
)
def test_options_that_are_none_are_refused(sampler: dict[str, Any], message: str) -> None:
    for ask in (check_sampler, warnings_for, lambda built: suggest(built, 0, [])):
        with pytest.raises(InputError, match=message):
            ask(of(sampler))


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"name": "tpe", "n_startup_trials": 3}, {"n_ei_candidates": 1}),
    ({"name": "tpe", "n_startup_trials": 3}, {"multivariate": True}),
    ({"name": "tpe", "n_startup_trials": 3}, {"options": {"prior_weight": 9.0}}),
    ({"name": "gp", "n_startup_trials": 3}, {"deterministic_objective": True}),
    ({"name": "gp", "n_startup_trials": 3}, {"n_startup_trials": 10}),
    ({"name": "cmaes", "population_size": 4}, {"sigma": 0.4}),
    ({"name": "cmaes", "population_size": 4}, {"separable": True}),
    ({"name": "cmaes", "population_size": 4}, {"lr_adapt": True}),
    ({"name": "cmaes", "population_size": 4}, {"population_size": 5}),
    ({"name": "qmc"}, {"qmc_type": "halton"}),
    ({"name": "qmc"}, {"scramble": False}),
    ({"name": "nsga2", "population_size": 4}, {"mutation_prob": 1.0}),
    ({"name": "nsga2", "population_size": 4}, {"crossover_prob": 0.0}),
    ({"name": "nsga2", "population_size": 4}, {"swapping_prob": 0.0}),
    *(
        ({"name": "nsga2", "population_size": 4}, {"crossover": crossover})
        for crossover in ("blx_alpha", "sbx", "vsbx", "undx", "spx")
    ),
]


@pytest.mark.parametrize(("usual", "change"), SETTINGS, ids=[f"{a['name']}-{b}" for a, b in SETTINGS])
def test_settings_reach_the_sampler(usual: dict[str, Any], change: dict[str, Any]) -> None:
    name = usual["name"]
    settings = {key: value for key, value in usual.items() if key != "name"}
    keeps = name in {"cmaes", "nsga2"}
    trials = swept(
        sampled(name if keeps else "random", search=PAIR, sampler=settings if keeps else {}), 9, every_fate
    )

    def later(sampler: dict[str, Any]) -> list[Any]:
        built = sampled(name, search=PAIR, sampler=sampler)
        return [suggest(built, number, trials).params for number in range(9, 9 + (2 if name == "gp" else 8))]

    assert later(settings | change) != later(settings)


@pytest.mark.parametrize("scramble", [True, False])
def test_a_sobol_sequence_meets_every_stratum_once(scramble: bool) -> None:
    built = sampled(
        "qmc", search={"method.temperature": PAIR["method.temperature"]}, sampler={"scramble": scramble}
    )
    values = [
        float(str(suggest(built, 90, [], index=place).params["method.temperature"])) for place in range(16)
    ]
    strata = sorted(int((value - 0.1) / 0.9 * 16 + 1e-9) for value in values)
    assert strata == list(range(16))


def test_a_place_in_a_sequence_hangs_on_nothing_but_its_number() -> None:
    """Neither on the trial's number, which repeats may have raised, nor on what a sweep had seen by then."""
    for name in ("qmc", "grid"):
        built = Space(space(sampler=name, search=CONDITIONAL, overrides={}))
        found = [suggest(built, number, [], index=5) for number in (5, 6, 20)]
        assert found[0] == found[1] == found[2] != suggest(built, 5, [], index=6)
    built = sampled("qmc")
    trials = swept(built, 5, every_fate)
    assert suggest(built, 5, trials) == suggest(built, 5, [])


def points(built: Space) -> list[str]:
    return [json.dumps(suggest(built, place, []).params) for place in range(capacity(built) or 0)]


def test_a_grid_has_every_combination_once_and_ends() -> None:
    built = of("grid", search=CONDITIONAL, overrides={})
    assert capacity(built) == 3 * 3 + 3  # momentum is searched for sgd alone
    found = points(built)
    assert len(set(found)) == 12
    assert sum("momentum" in point for point in found) == 9
    with pytest.raises(SpaceExhaustedError, match=r"^the grid is used up: 12 points were suggested"):
        suggest(built, 12, [])
    assert points(of({"name": "grid", "seed": 1}, search=CONDITIONAL, overrides={})) != found
    assert sorted(points(of({"name": "grid", "seed": 1}, search=CONDITIONAL, overrides={}))) == sorted(found)


def test_a_grid_leaves_out_what_constraints_refuse() -> None:
    built = of("grid", search=CONDITIONAL, overrides={}, constraints=["train.batch_size < 90"])
    assert capacity(built) == 8
    assert len(set(points(built))) == 8
    assert sum(suggest(built, place, []).rejected for place in range(8)) in range(1, 5)


def test_a_grid_has_bounds() -> None:
    with pytest.raises(
        InputError, match=r"optimizer.lr, method.temperature: not a finite set of values; give"
    ):
        check_sampler(of("grid"))
    with pytest.raises(InputError, match="more than 20000 combinations; use wider steps or fewer keys"):
        check_sampler(
            of("grid", search={"train.batch_size": {"type": "int", "low": 2, "high": 10**6}}, overrides={})
        )
    assert capacity(of("tpe")) is None


def test_the_ends_and_the_steps_of_domains() -> None:
    step = FloatDomain(type="float", low=0.1, high=0.75, step=0.1)
    assert [level(step, number) for number in range(levels(step) or 0)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert (at(step, 0.0), at(step, 1.0)) == (0.1, 0.7)
    log = FloatDomain(type="float", low=1e-4, high=1e-2, log=True)
    assert [at(log, share) for share in (0.0, 0.5, 1.0)] == pytest.approx([1e-4, 1e-3, 1e-2])
    domains: list[Domain] = [
        IntDomain(type="int", low=1, high=4),
        IntDomain(type="int", low=2, high=8, step=2),
        IntDomain(type="int", low=1, high=4, log=True),
    ]
    shares = (np.arange(4000) + 0.5) / 4000
    counts = [np.unique([at(domain, share) for share in shares], return_counts=True)[1] for domain in domains]
    assert counts[0].tolist() == counts[1].tolist() == [1000] * 4
    assert counts[2] / 4000 == pytest.approx(np.log([3, 5 / 3, 7 / 5, 9 / 7]) / np.log(9), abs=1e-3)


def test_random_does_not_look_at_the_record_and_tpe_does() -> None:
    for name, looks in (("random", False), ("tpe", True)):
        trials = swept(sampled(name), 8, every_fate)
        assert (suggest(sampled(name), 8, trials) != suggest(sampled(name), 8, [])) is looks


def test_refused_suggestions_make_room_for_others() -> None:
    """Where no trial can be, nothing is known, and TPE would come back to it for ever."""
    search = {
        "train.batch_size": {"type": "int", "low": 32, "high": 224, "step": 32},
        "method.temperature": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1},
    }
    built = sampled("tpe", search=search, overrides={}, constraints=["train.batch_size > 100"])
    trials: list[Entry] = swept(built, 16, lambda number, params: Fate("complete", (0.5,)))
    assert sum(suggest(built, number, trials).rejected for number in range(16, 24)) < 8 * 10


@pytest.mark.parametrize(
    ("sampler", "changes", "said"),
    [
        ("tpe", {"search": CONDITIONAL}, []),
        ("random", {"search": CONDITIONAL}, []),
        ("qmc", {"search": CONDITIONAL}, []),
        ("tpe", {"trials": 10}, ["tpe: all 10 trials are drawn by chance"]),
        ("gp", {}, []),
        ("gp", {"stopping": {"rule": "median"}}, ["gp: knows no pruned trials; they count with their last"]),
        ("gp", {"search": CONDITIONAL}, [r"gp: keys under a condition .* \(optimizer.momentum\)"]),
        ("cmaes", {"stopping": {"rule": "median"}}, ["cmaes: knows no pruned trials; they count as worse"]),
        ("cmaes", {"search": CONDITIONAL}, ["cmaes: keys under a", "cmaes: needs two numeric keys"]),
        (
            "cmaes",
            {"search": PAIR | {"optimizer.name": CONDITIONAL["optimizer.name"]}},
            [r"cmaes: categorical keys are drawn by chance \(optimizer.name\)"],
        ),
        ("cmaes", {"trials": 20}, ["cmaes: 20 trials are less than five generations of 6"]),
        ("nsga2", {"trials": 30}, ["nsga2: 30 trials are less than two generations"]),
        ("nsga2", {"stopping": {"rule": "median"}}, ["nsga2: knows no pruned trials"]),
        ("grid", {"search": CONDITIONAL}, ["grid: 12 of its 12 points are run; trials = 100"]),
        ("grid", {"search": CONDITIONAL, "trials": 5}, ["grid: 5 of its 12 points are run; trials = 5"]),
        ("grid", {"search": CONDITIONAL, "trials": 12}, []),
    ],
)  # fmt: skip
def test_what_a_sampler_cannot_do_is_said_in_advance(sampler: str, changes: Any, said: list[str]) -> None:
    found = warnings_for(of(sampler, **{"trials": 100, "overrides": {}, "search": PAIR, **changes}))
    assert len(found) == len(said), found
    for sentence, pattern in zip(found, said, strict=True):
        assert re.match(pattern, sentence), sentence
        assert "\n" not in sentence


def test_a_sweep_over_a_grid_ends_with_it() -> None:
    changes: dict[str, Any] = {
        "search": CONDITIONAL,
        "overrides": {},
        "trials": 100,
        "priors": [],
        "noise": {"seeds": 1},
    }
    built = sampled("grid", **changes)
    trials: list[Entry] = []
    while isinstance(found := propose(built, trials), Proposal):
        assert found.role.kind == "search"
        trials.append(made(built, len(trials), found.params, Fate("complete", (0.5,))))
    assert found is Answer.NEVER
    assert len({json.dumps(entry.params) for entry in trials}) == len(trials) == 12
