"""What every sampler must do, whatever its domains and whatever is on record."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from raysl.errors import InputError
from raysl.tune.records.entry import Entry
from raysl.tune.samplers.suggest import suggest
from raysl.tune.samplers.suggestion import levels
from raysl.tune.spaces.resolve import Space
from tests.tune.records import NAMES, Fate, every_fate, made, read, sampled, swept, written

FLOAT = {"type": "float", "low": 0.1, "high": 1.0}
LOG = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
STEP = {"type": "float", "low": 0.1, "high": 0.75, "step": 0.1}
INT = {"type": "int", "low": 20, "high": 23}
INT_STEP = {"type": "int", "low": 32, "high": 250, "step": 32}
INT_LOG = {"type": "int", "low": 16, "high": 32, "log": True}
CHOICE = {"type": "categorical", "choices": ["sgd", "adam"]}
UNDER = FLOAT | {"low": 0.5, "high": 0.9, "step": 0.1, "when": {"optimizer.name": "sgd"}}
DOMAINS: dict[str, dict[str, Any]] = {
    "float": {"method.temperature": FLOAT, "optimizer.lr": FLOAT},
    "log": {"optimizer.lr": LOG, "optimizer.weight_decay": LOG},
    "step": {"method.temperature": STEP, "optimizer.lr": STEP},
    "int": {"train.batch_size": INT, "method.temperature": STEP},
    "int_step": {"train.batch_size": INT_STEP},
    "int_log": {"train.batch_size": INT_LOG, "optimizer.lr": STEP},
    "categorical": {"optimizer.name": CHOICE},
    "mixed": {"optimizer.name": CHOICE, "optimizer.lr": LOG, "train.batch_size": INT_STEP},
    "when": {"optimizer.name": CHOICE, "optimizer.momentum": UNDER, "method.temperature": STEP},
    "single": {
        "optimizer.lr": {"type": "float", "low": 0.1, "high": 0.1},
        "train.batch_size": {"type": "int", "low": 64, "high": 64},
        "optimizer.name": {"type": "categorical", "choices": ["sgd"]},
    },
    "single_and_more": {
        "train.batch_size": {"type": "int", "low": 64, "high": 64},
        "optimizer.name": CHOICE,
        "method.temperature": STEP,
        "optimizer.lr": STEP,
    },
}
FINITE = {"overrides": {}, "search": {"train.batch_size": INT_STEP, "method.temperature": STEP}}


def over(name: str, kind: str, **changes: Any) -> Space:
    return sampled(name, search=DOMAINS[kind], overrides={}, **changes)


def finite(name: str, **changes: Any) -> Space:
    return sampled(name, **{**FINITE, **changes})


def count_of(built: Space) -> int:
    """How many trials to try: enough for each sampler to have begun, no more than a grid has points."""
    most = 6 if built.config.sampler.name == "gp" else 12
    return min(most, math.prod(levels(domain) or 12 for domain in built.config.search.values()))


@pytest.mark.parametrize("kind", DOMAINS)
@pytest.mark.parametrize("name", NAMES)
def test_values_are_of_their_domains(name: str, kind: str) -> None:
    built = over(name, kind)
    if name == "grid" and any(levels(domain) is None for domain in built.config.search.values()):
        with pytest.raises(InputError, match=r"not a finite set of values; give a step"):
            suggest(built, 0, [])
        return
    trials = swept(built, count_of(built), every_fate)
    types: dict[str, type] = {"float": float, "int": int, "categorical": str}
    for entry in trials:
        for key, domain in built.config.search.items():
            active = not domain.when or entry.params["optimizer.name"] == "sgd"
            assert (key in entry.params) == active
            if active:
                assert type(entry.params[key]) is types[domain.type]
                assert domain.contains(entry.params[key])
                held = entry.distributions[key]
                assert held._contains(held.to_internal_repr(entry.params[key]))
        assert entry.distributions.keys() == entry.params.keys()
        assert not entry.system_attrs or name in {"cmaes", "nsga2"}
    if kind not in {"single", "categorical"}:
        assert len({json.dumps(entry.params) for entry in trials}) > len(trials) / 3


@pytest.mark.parametrize("kind", ["step", "when"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_question_has_the_same_answer(name: str, kind: str) -> None:
    trials = swept(over(name, kind), 8, every_fate)
    found = suggest(over(name, kind), 8, trials)
    assert suggest(over(name, kind), 8, trials) == found
    again = over(name, kind)
    assert suggest(again, 8, read(again, written(trials))) == found
    assert json.loads(json.dumps(found.system_attrs)) == found.system_attrs


_ELSEWHERE = """
import json, sys
from tests.tune.records import read, sampled
from tests.tune.test_samplers import over
from raysl.tune.samplers.suggest import suggest
asked = json.loads(sys.stdin.read())
told = {name: suggest(over(name, "when"), 8, read(over(name, "when"), text)) for name, text in asked.items()}
print(json.dumps({name: [found.params, found.system_attrs] for name, found in told.items()}))
"""


def test_another_process_has_the_same_answer() -> None:
    """With other hashes of strings and another number of threads."""
    records = {name: written(swept(over(name, "when"), 8, every_fate)) for name in NAMES}
    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        input=json.dumps(records),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    told = json.loads(done.stdout)
    for name, text in records.items():
        found = suggest(over(name, "when"), 8, read(over(name, "when"), text))
        assert told[name] == [found.params, found.system_attrs], name
    assert done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_or_another_trial_has_another_answer(name: str) -> None:
    built = finite(name)
    # What knows enough about a few values says the same to all who ask at once.
    trials = [] if name in {"gp", "tpe"} else swept(built, 7, every_fate)
    here = [suggest(built, number, trials).params for number in (7, 8, 9)]
    there = [suggest(finite(name, seed=4), number, trials).params for number in (7, 8, 9)]
    assert here != there
    assert len({json.dumps(params) for params in here}) > 1


ODD: dict[str, Fate] = {
    "all failed at once": Fate("failed", (), "error", 0),
    "all infinite": Fate("failed", (float("inf"), float("-inf")), "inf"),
    "all killed": Fate("failed", (), "killed", 0),
    "all running": Fate("running", (0.5, 0.5)),
    "all pruned": Fate("pruned", (0.5, 0.5)),
    "all pruned, nothing measured": Fate("pruned", (), epochs=0),
    "all pruned at NaN": Fate("pruned", (float("nan"), float("nan"))),
    "complete, and yet NaN": Fate("complete", (float("nan"), 0.5)),
    "all the same": Fate("complete", (0.5, 0.5)),
    "huge": Fate("complete", (1e300, -1e300)),
}


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_odd_records_break_nothing(name: str, odd: str, objectives: int) -> None:
    if (name, objectives) == ("cmaes", 2):
        return
    built = finite(name, objectives=objectives)
    trials = swept(finite("random", objectives=objectives), 5, lambda number, params: ODD[odd])
    assert suggest(built, 5, trials).params.keys() == built.config.search.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_long_run_of_failures_does_not_end_a_sampler(name: str) -> None:
    fate = Fate("failed", (float("nan"),), "collapse", 1)
    built = finite(name)
    count = 12 if name == "gp" else 40
    assert len(swept(built, count, lambda number, params: fate)) == count


@pytest.mark.parametrize("name", NAMES)
def test_constraints_hold_and_refused_places_are_not_met_again(name: str) -> None:
    built = finite(name, constraints=["train.batch_size < 100 or method.temperature < 0.25"])
    trials: list[Entry] = []
    rejected = 0
    for number in range(10):
        found = suggest(built, number, trials)
        assert built.refusal(found.params) is None
        rejected += found.rejected
        trials.append(made(built, number, found.params, every_fate(number, {}), found.system_attrs))
    assert rejected > 0
    if name == "grid":
        assert len({json.dumps(entry.params) for entry in trials}) == 10


@pytest.mark.parametrize("name", NAMES)
def test_constraints_that_leave_nothing_are_one_line(name: str) -> None:
    built = finite(name, constraints=["train.batch_size > 1000"])
    trials = swept(finite("random"), 4, every_fate)
    with pytest.raises(InputError, match=r"were refused, the last one because it breaks .*; widen") as caught:
        suggest(built, 4, trials)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tpe", "gp", "nsga2", "qmc", "random", "grid"])
def test_two_objectives(name: str) -> None:
    built = over(name, "when", objectives=2)
    trials = swept(built, 9, every_fate)
    assert suggest(built, 9, trials) == suggest(over(name, "when", objectives=2), 9, trials)


def test_cmaes_refuses_two_objectives() -> None:
    with pytest.raises(InputError, match=r"^sampler.name = cmaes: knows one objective, and there are 2; use"):
        suggest(finite("cmaes", objectives=2), 0, [])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks(
    name: str,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No words, no warnings, no draws from generators that are everybody's, no other number of threads."""
    built = over(name, "when") if name == "grid" else over(name, "mixed")
    trials = swept(built, 7, every_fate)
    before = (
        random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist(),
        torch.get_num_threads(), optuna.logging.get_verbosity(),
    )  # fmt: skip
    suggest(built, 7, trials)
    after = (
        random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist(),
        torch.get_num_threads(), optuna.logging.get_verbosity(),
    )  # fmt: skip
    assert before == after
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert not caplog.records
