"""`raysl sweep check`: every mistake at once, none that only follows from another, and the size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from raysl.config import yaml
from raysl.tune.planning.check_space import SpaceCheck, check_space
from raysl.tune.planning.extent import draw, epochs_of, size_of
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space

HERE = [{"CPU": 2.0, "GPU": 0.0}]
WRONG = """
base: digits/w_mse
trails: 5
trials: many
concurrent: 0
deterministic: true
overrides: {train.batch_sise: 3, optimizer.weight_decay: -1, launch.workers: 3}
objective: {metric: knn_top1}
search:
  optimizer.lr: {type: float, low: 1, high: 0.1}
  optimizr.lr: {type: float, low: 0.01, high: 0.1}
  method.eps: {type: float, low: -1, high: 0.1}
  method.w_iter: {type: int, low: 1, high: 4, when: {foo.bar: 3}}
  data.seed: {type: int, low: 0, high: 3}
  train.batch_size: {type: categorical, choices: [96, 128]}
  crop_min: {type: float, low: 0.1, high: 0.9}
tied:
  method.w_size: 2 * method.projector.outt
  views.crop.scale: "[crop_min, 1.0]"
constraints: ["os.system('x')", "nokey > 3"]
priors: [{crop_min: 2.0}, {nothing: 3, crop_min: 0.5}]
stopping: {rule: median, min_epochs: 400}
sampler: {name: tpe, n_startup: 3}
budget: {money: 3}
"""


def checked(tmp_path: Path, text: str = "", *overrides: str, **changes: Any) -> SpaceCheck:
    path = tmp_path / "mine.yaml"
    path.write_text(text or yaml.dump(space(**changes).to_dict()))
    return check_space(path, overrides, HERE)


def test_all_mistakes_are_in_one_listing(tmp_path: Path) -> None:
    found = checked(tmp_path, WRONG, "trialz=3", "search.crop_min.hi=1", "nonsense").mistakes
    for told in (
        "override 'trialz=3': trialz: unknown key; did you mean 'trials'?",
        "override 'nonsense': expected dotted.key=value",
        "search.crop_min.hi = 1: unknown key; did you mean 'high'?",
        "trails = 5: unknown key; did you mean 'trials'?",
        "trials = 'many': expected a valid integer",
        "concurrent = 0: expected greater than or equal to 1",
        "search.optimizer.lr: low = 1.0 is above high = 0.1; swap them",
        "search.data.seed: cannot be searched",
        "optimizr: unknown key; did you mean 'optimizer'?",
        "method.eps = -1.0: expected greater than or equal to 0",
        "search.method.w_iter.when: no key 'foo.bar'",
        "train.batch_sise = 3: unknown key; did you mean 'batch_size'?",
        "optimizer.weight_decay = -1: expected greater than or equal to 0",
        "tied.method.w_size '2 * method.projector.outt': no key 'method.projector.outt'",
        "allowed are keys",
        "constraint 'nokey > 3': no key 'nokey'",
        "nothing is not searched",
        "stopping.min_epochs = 400: trials have 30 epochs",
        "sampler.n_startup = 3: unknown key",
        "budget.money: needs prices.gpu_hour",
        "objective.metric = 'knn_top1': expected a tag",
        "train.batch_size = 128: does not divide among launch.workers = 3",
        "launch.workers = 3: a trial needs 3 workers",
    ):
        assert sum(told in line for line in found) == 1, (told, found)
    # What only follows from another mistake is not said: that a deterministic sweep lacks concurrent.
    assert len(found) == 23, found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"constraints": ["optimizer.lr > 1"]}, "none of 200 random configurations can be a trial"),
        ({"sampler": {"name": "grid"}}, "not a finite set of values"),
        ({"overrides": {"launch.gpus_per_worker": 2}}, "the largest node has 2 and 0"),
        ({"priors": [{"optimizer.lr": 0.5}]}, "priors[0]: optimizer.lr = 0.5 is not in its domain"),
        ({"overrides": {"diagnostics.knn": False}}, "needs labels"),
        ({"proxy": {"epochs": 40}}, "more than the 4 epochs"),
    ],
)
def test_what_could_never_run_is_a_mistake(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    mistakes = checked(tmp_path, **changes).mistakes
    assert len(mistakes) == 1
    assert told in mistakes[0]


def test_what_works_otherwise_than_one_may_think_is_a_warning(tmp_path: Path) -> None:
    found = checked(
        tmp_path,
        concurrent=9,
        trials=3,
        epochs=9,
        sampler={"name": "gp"},
        stopping={"rule": "median"},
        constraints=["optimizer.lr > 0.08"],
        budget={"gpu_hours": 1, "epochs": 5},
    )
    assert not found.mistakes
    for told in (
        "gp: knows no pruned trials", "nobody is stopped before 5 trials", "random configurations can be",
        "budget.gpu_hours: trials use no GPU", "only 2 fit here", "budget.epochs = 5: ends the sweep",
    ):  # fmt: skip
        assert sum(told in line for line in found.warnings) == 1, told
    assert "warning: " in found.describe()


RATE = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
UNDER = {"type": "float", "low": 0.1, "high": 0.9, "when": {"optimizer.name": "sgd"}}
NAMES = {"type": "categorical", "choices": ["sgd", "adam"]}
TEMPERATURE = {"type": "float", "low": 0.1, "high": 0.6, "step": 0.1}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"constraints": ["int(1e400) > 3"]}, "cannot convert float infinity"),
        ({"search": {}}, "search: nothing is searched; give a key and its domain"),
        ({"search": {"optimizer.lr": RATE | {"low": math.nan}}}, "low = nan: expected a finite number"),
        (
            {"search": {"optimizer.lr": {"type": "categorical", "choices": [0.1, 0.1]}}},
            "search.optimizer.lr.choices = [0.1, 0.1]: 0.1 is there before",
        ),
        ({"search": {"optimizer.lr": {"type": "real"}}}, "whose type is float, int or categorical"),
        (
            {"tied": {"train.batch_size": "64"}, "overrides": {"train.batch_size": 128}},
            "both tied and overridden",
        ),
        (
            {
                "search": {"optimizer.name": NAMES, "optimizer.momentum": UNDER},
                "priors": [{"optimizer.name": "adam", "optimizer.momentum": 0.5}],
            },
            "optimizer.momentum is given, but searched only when optimizer.name = sgd; drop it",
        ),
        ({"proxy": {"epochs": 4}}, "as many as a whole trial has"),
    ],
)
def test_each_of_these_is_one_mistake(changes: dict[str, Any], told: str) -> None:
    values = space().to_dict() | changes
    (mistake,) = check_space(values, [], HERE).mistakes
    assert told in mistake


def test_an_expression_that_fails_somewhere_is_a_mistake_and_no_crash() -> None:
    shift = {"shift": {"type": "int", "low": -2, "high": 3}}
    config = space(
        search=shift,
        overrides={},
        tied={"train.batch_size": "64 + shift"},
        constraints=["10 / shift < 99"],
    )
    assert Space(config).refusal({"shift": 0}) == "constraint '10 / shift < 99': division by zero"
    (mistake,) = check_space(config.to_dict(), [], HERE).mistakes
    assert mistake.startswith("constraint '10 / shift < 99': division by zero (of 200 random")


def test_a_key_whose_condition_never_holds_is_named() -> None:
    never = UNDER | {"when": {"optimizer.name": "lars"}}
    found = checked_values(search={"optimizer.name": NAMES, "optimizer.momentum": never})
    (warning,) = found.warnings
    assert warning == (
        "search.optimizer.momentum: none of 200 random configurations has it; it is searched when "
        "optimizer.name = lars"
    )


def checked_values(**changes: Any) -> SpaceCheck:
    return check_space(space(**changes).to_dict(), [], HERE)


def test_the_last_step_of_a_domain_is_its_edge() -> None:
    size = {"type": "int", "low": 64, "high": 257, "step": 64}
    narrow = checked_values(search={"train.batch_size": size}, overrides={"launch.workers": 2})
    assert not narrow.mistakes
    ends = space(search={"a.b": TEMPERATURE | {"high": 0.65}, "a.c": size}).search
    assert [domain.ends() for domain in ends.values()] == [[0.1, 0.6], [64, 256]]


@pytest.mark.parametrize(("trials", "run", "epochs"), [(6, 5, 6), (7, 6, 7), (50, 6, 7)])
def test_priors_of_a_grid_take_none_of_its_points(trials: int, run: int, epochs: int) -> None:
    found = checked_values(
        search={"method.temperature": TEMPERATURE}, priors=[{}], sampler="grid", trials=trials
    )
    told = f"grid: {run} of its 6 points are run; trials = {trials}, 1 of them priors"
    assert found.warnings == (() if trials == 7 else (told,))
    assert found.epochs_worst == epochs * 4


def test_size_counts_conditional_keys_where_they_are_searched() -> None:
    search = {
        "optimizer.name": {"type": "categorical", "choices": ["sgd", "adam", "lars"]},
        "optimizer.momentum": {
            "type": "float", "low": 0.5, "high": 0.9, "step": 0.1,
            "when": {"optimizer.name": ["sgd", "lars"]},
        },
        "train.batch_size": {"type": "int", "low": 32, "high": 64, "step": 32},
    }  # fmt: skip
    # Five momenta for each of two optimizers, none for the third; two batches.
    assert size_of(Space(space(search=search, overrides={}))).configurations == (5 + 5 + 1) * 2
    endless = size_of(Space(space()))
    assert (endless.configurations, endless.continuous, endless.combinations) == (math.inf, 2, 1)


def test_the_share_that_constraints_accept() -> None:
    halved = draw(Space(space(constraints=["method.temperature > 0.55"])))
    assert 0.4 < halved.accepted < 0.6
    assert list(halved.refusals) == ["breaks 'method.temperature > 0.55'"]
    assert draw(Space(space())).accepted == 1.0


def test_epochs_count_repeats_and_promotions_and_what_stopping_saves() -> None:
    config = space(trials=20, epochs=9, priors=[{}], noise={"seeds": 3, "best_seeds": 2})
    assert epochs_of(Space(config)).worst == 20 * 9 + 2 * 9 + 1 * 9
    assert epochs_of(Space(config)).typical == epochs_of(Space(config)).worst
    stopping = {"rule": "successive_halving", "min_epochs": 1}
    stopped = epochs_of(Space(config.model_copy(update={"stopping": space(stopping=stopping).stopping})))
    assert stopped.worst == 20 * 9 + 3 * 9
    assert 20 * 3 + 3 * 9 < stopped.typical < 0.8 * stopped.worst
    proxied = epochs_of(Space(space(trials=20, epochs=9, proxy={"epochs": 3, "promote": 5})))
    assert proxied.worst == 20 * 3 + 5 * 9
