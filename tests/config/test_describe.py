"""Every field explains itself, and every recipe in the package is one."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import Field

from raysl import methods
from raysl.cli.main import main
from raysl.config import RECIPES, Config, build, load, yaml
from raysl.config.describe import commented, reference
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


PROTOCOLS = {"knn", "linear-cached", "linear-lars", "linear-sgd", "online"}
"""Those that recipes' authors report; not all can be run yet."""


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_recipe_says_what_is_published(name: str) -> None:
    published = load(RunConfig, [name]).published
    if published is None:
        assert name == "imagenet/matrix_ssl", "give `published`; `ours` where it is no paper's"
    elif published != "ours":
        assert {one.metric.partition("/")[0] for one in published} <= PROTOCOLS


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


class Inner(Config):
    """A piece inside."""

    size: int = Field(3, ge=1, le=9)
    """How many | there are."""


class Outer(Config):
    """The whole.

    More about it.
    """

    must: float = Field(gt=0.0)
    """Needed."""

    inner: Inner | None = None
    """Perhaps."""

    other: Inner = Inner(size=4)
    """Always."""

    kind: typing.Literal["a", "b"] | bool = "a"
    """Which."""

    several: tuple[typing.Annotated[int, Field(ge=2)], ...] = (2, 3)
    """Many."""

    named: dict[str, int] | None = None
    """By name."""


def test_reference_shows_types_bounds_and_defaults() -> None:
    text = reference({"the outer": Outer})
    assert text.startswith("## the outer\n\nThe whole.\n\n| key | type | default | meaning |\n| --- ")
    for row in (
        "| `must` | number (> 0) | required | Needed. |",
        "| `inner` | [Inner](#inner) or null | `null` | Perhaps. |",
        '| `other` | [Inner](#inner) | `{"size": 4}` | Always. |',
        "| `kind` | `a`, `b` or true or false | `a` | Which. |",
        "| `named` | mapping or null | `null` | By name. |",
        "| `several` | list of integer (>= 2) | `[2, 3]` | Many. |",
        "| `size` | integer (>= 1, <= 9) | `3` | How many \\| there are. |",
    ):
        assert row in text.splitlines(), row
    assert text.count("## Inner") == 1


def test_the_page_of_documentation_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "docs"]) == 0
    page = Path(__file__).parents[2] / "docs" / "CONFIG.md"
    assert capsys.readouterr().out == page.read_text(encoding="utf-8"), (
        "a field has changed; run: raysl config docs > docs/CONFIG.md"
    )
