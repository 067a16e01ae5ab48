"""Search spaces: what is accepted, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysl.config import SEARCH_SPACES, leaves
from raysl.errors import InputError
from raysl.tune.planning.plan import check_priors
from raysl.tune.spaces.expression import Expression
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.spaces.space_file import load_space
from tests.tune.conftest import space

YAML = """
base: digits/simclr
search:
  method.temperature: {type: float, low: 0.1, high: 1.0, log: true}
  optimizer.lr: {type: float, low: 1e-4, high: 1e-1, log: true}
trials: 5
"""


def written(tmp_path: Path, text: str = YAML) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", SEARCH_SPACES.names())
def test_every_space_that_ships_is_sound(name: str) -> None:
    config = load_space(name)
    assert config.name == name
    built = Space(config)
    assert built.epochs >= 3 * config.stopping.min_epochs
    check_priors(built)


def test_overrides_go_to_the_space_or_to_its_trials(tmp_path: Path) -> None:
    config = load_space(
        written(tmp_path),
        ["trials=3", "search.optimizer.lr.high=0.5", "train.batch_size=64", "method.temperature=0.3"],
    )
    assert config.name == "mine"
    assert config.trials == 3
    assert list(config.search) == ["optimizer.lr"]
    run = Space(config).run_config({"optimizer.lr": 0.25})
    assert (run.train.batch_size, run.optimizer.lr) == (64, 0.25)
    assert run.to_dict()["method"]["temperature"] == 0.3
    assert "optimizer.lr" not in load_space(written(tmp_path), ["search.optimizer.lr=null"]).search


def test_what_is_given_is_neither_searched_nor_tied_and_priors_that_say_otherwise_are_left_out() -> None:
    fixed = load_space("w_mse", ["method.w_iter=2"])
    whole = load_space("w_mse")
    # The second prior has four iterations.
    assert fixed.priors == (whole.priors[0], whole.priors[2])
    assert len(load_space("w_mse", ["method.w_iter=4"]).priors) == 3
    assert not any("method.w_iter" in prior for prior in load_space("w_mse", ["method.w_iter=4"]).priors)
    sized = load_space("w_mse", ["method.w_size=128"])
    assert "method.w_size" not in sized.tied
    assert "rows_per_dimension" not in sized.search
    assert len(sized.priors) == 3
    assert Space(sized).run_config(sized.priors[0] | {"crop_min": 0.5}).to_dict()["method"]["w_size"] == 128
    # A tie that names its own key goes on from what is given.
    scaled = load_space("w_mse", ["views.jitter.brightness=0.9"])
    assert scaled.tied == whole.tied


def test_train_epochs_is_the_sweeps_budget(tmp_path: Path) -> None:
    config = load_space(written(tmp_path), ["train.epochs=7", "train.seed=1"])
    assert config.epochs == Space(config).epochs == 7
    assert load_space("simclr", ["train.epochs=7"]).epochs == 7


def test_the_batch_size_may_be_searched() -> None:
    domain = {"type": "int", "low": 32, "high": 64}
    built = Space(space(overrides={}, search={"train.batch_size": domain}))
    assert built.run_config({"train.batch_size": 48}).train.batch_size == 48


@pytest.mark.parametrize("key", ["search", "overrides"])
def test_what_is_no_mapping_is_refused_before_overrides_are_merged_into_it(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match="expected a mapping"):
        load_space({"base": "digits/simclr", key: [1]}, ["train.seed=1", "search.optimizer.lr.high=1"])


def test_epochs_set_the_budget_and_the_horizon(tmp_path: Path) -> None:
    run = Space(load_space(written(tmp_path), ["epochs=7"])).run_config({})
    assert run.train.epochs == 7
    assert run.horizon == 7.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (YAML.replace("type: float, low: 0.1", "type: flaot, low: 0.1"), "float"),
        (YAML.replace("low: 0.1", "low: 2.0"), "swap them"),
        (YAML.replace("low: 0.1", "low: 0.0"), "above 0"),
        (YAML.replace("trials", "trails"), "did you mean 'trials'"),
        (YAML + "constraints: ['__import__(\"os\")']\n", "allowed are"),
        (YAML + "constraints: ['method.temperature >']\n", "cannot be read"),
        (YAML + "overrides: {optimizer.lr: 0.1}\n", "both searched and overridden"),
        (YAML + "overrides: {optimizer: {lr: 0.1}}\n", "both searched and overridden"),
        (YAML + "ledger: here.db\n", "database URL"),
        (YAML.replace("optimizer.lr", "data.short_side"), "decoded once"),
        (YAML.replace("optimizer.lr", "train.epochs"), "train.epochs: cannot be searched.*set epochs"),
        (YAML.replace("optimizer.lr", "launch.workers"), "cannot be searched"),
        (YAML.replace("optimizer.lr", "checkpoint.every"), "cannot be searched"),
        (YAML.replace("optimizer.lr", "diagnostics.knn_k"), "cannot be searched"),
        (YAML.replace("optimizer.lr", "schedule.horizon"), "cannot be searched"),
        ("base: digits/simclr\nsearch: [a]\n", r"search = \['a'\]: expected a mapping"),
        (YAML + "overrides: 5\n", "overrides = 5: expected a mapping"),
        (YAML.replace("log: true}", "log: true, when: {train.seed: []}}", 1), "when.train.seed"),
        (
            YAML.replace("{type: float, low: 0.1", "{when: {optimizer.lr: 1}, type: float, low: 0.1"),
            "come before",
        ),
        (YAML.replace("base: digits/simclr", "base: []"), "base"),
    ],
)
def test_a_wrong_space_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_space(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1
    assert "mine.yaml" in str(caught.value) or "search" in str(caught.value) or "base" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "digits/simclrr"}, "did you mean 'digits/simclr'"),
        ({"search": {"method.temprature": {"type": "float", "low": 0.1, "high": 1}}}, "temperature"),
        (
            {"search": {"optimizer.momentum": {"type": "float", "low": 0.5, "high": 1.5}}},
            "optimizer.momentum = 1.5",
        ),
        ({"constraints": ["method.temprature < 1"]}, "did you mean 'method.temperature'"),
    ],
)
def test_a_space_that_does_not_fit_its_recipe_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Space(space(**changes))
    assert len(str(caught.value).splitlines()) == 1


def test_conditions_follow_earlier_parameters_and_the_recipe() -> None:
    built = Space(
        space(
            search={
                "optimizer.name": {"type": "categorical", "choices": ["sgd", "adam"]},
                "optimizer.momentum": {
                    "type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer.name": "sgd"},
                },
                "optimizer.weight_decay": {
                    "type": "float", "low": 0.0, "high": 0.1, "when": {"optimizer.name": ["adam", "adamw"]},
                },
                "optimizer.lr": {"type": "float", "low": 0.1, "high": 1.0, "when": {"method.name": "simclr"}},
            }
        )
    )  # fmt: skip
    sgd, adam = {"optimizer.name": "sgd"}, {"optimizer.name": "adam"}
    active = [
        [key for key, domain in built.config.search.items() if built.is_active(domain, params)]
        for params in (sgd, adam)
    ]
    assert active == [
        ["optimizer.name", "optimizer.momentum", "optimizer.lr"],
        ["optimizer.name", "optimizer.weight_decay", "optimizer.lr"],
    ]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a.b > 2 * c", True),
        ("a.b <= c", False),
        ("a.b // 2 == 2 and c < 3", True),
        ("not (a.b in [1, 2]) or c / 0 > 1", True),
        ("1 < c < a.b", True),
        ("min(a.b, c) == c", True),
        ("name == 'x' and flag == true and nothing == null", True),
    ],
)
def test_expressions(text: str, holds: bool) -> None:
    values = {"a": {"b": 5}, "c": 2, "name": "x", "flag": True, "nothing": None}
    assert Expression(text).holds(dict(leaves(values))) is holds


@pytest.mark.parametrize(
    "text",
    [
        "a.__class__.__mro__()",
        "open('x')",
        "[x for x in a]",
        "a[0]",
        "lambda: 1",
        "a := 1",
        "2 ** 9",
        "f'{a}'",
    ],
)
def test_an_expression_is_never_code(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed are|cannot be read"):
        Expression(text)


def test_a_space_survives_its_own_yaml() -> None:
    config = space(constraints=["method.temperature < 2"])
    assert SpaceConfig.model_validate(config.to_dict()) == config


def test_a_misspelt_override_is_named_with_the_nearest_key_of_space_or_run() -> None:
    with pytest.raises(
        InputError, match=r"override 'trails=3': trails: unknown key; did you mean 'trials'\?"
    ):
        load_space("matrix_ssl", ["trails=3"])
