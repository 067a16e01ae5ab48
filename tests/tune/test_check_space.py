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
