"""Every field explains itself, and every recipe in the package is one."""

from __future__ import annotations

import typing
from collections.abc import Iterator

import pytest

from raysl import methods
from raysl.config import RECIPES, Config, build, load, yaml
from raysl.config.describe import commented
from raysl.train.config import RunConfig


def models_in(annotation: object) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def every_model() -> list[type[Config]]:
    found: list[type[Config]] = []
    waiting: list[type[Config]] = [
        RunConfig,
        *(methods.config_class(name) for name in methods.method_names()),
    ]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                waiting += models_in(field.annotation)
    return found


def test_the_walk_reaches_nested_and_optional_models() -> None:
    names = {model.__name__ for model in every_model()}
    assert {"OptimizerConfig", "HeadConfig", "CropConfig", "SelectionConfig", "BackboneConfig"} <= names


def test_every_field_of_every_model_is_documented() -> None:
    silent = [
        f"{model.__module__}.{model.__qualname__}.{name}"
        for model in every_model()
        for name, field in model.model_fields.items()
        if not (field.description or "").strip()
    ]
    assert not silent


def test_every_numeric_field_is_bounded() -> None:
    unbounded = [
        f"{model.__qualname__}.{name}"
        for model in every_model()
        for name, field in model.model_fields.items()
        if field.annotation in (int, float) and not field.metadata
    ]
    assert not unbounded


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_recipe_loads_and_survives_yaml(name: str) -> None:
    config = load(RunConfig, [name])
    assert build(RunConfig, yaml.parse(yaml.dump(config.to_dict()), name)) == config


@pytest.mark.parametrize("name", RECIPES.names())
def test_the_commented_config_is_the_same_config(name: str) -> None:
    config = load(RunConfig, [name])
    text = commented(config)
    assert build(RunConfig, yaml.parse(text, name)) == config
    assert "# Images in a global batch, over all workers." in text


def test_comments_wrap_and_stand_above_their_field() -> None:
    lines = commented(load(RunConfig, ["digits/simclr"])).splitlines()
    seed = next(number for number, line in enumerate(lines) if line.strip().startswith("seed: 0"))
    assert lines[seed - 1].strip().startswith("#")
    assert max(map(len, lines)) <= 120
