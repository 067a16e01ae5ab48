"""How sources and overrides become one config."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysl.config import RECIPES, Config, Shelf, difference, leaves, load, merge, nested, yaml
from raysl.errors import InputError
from raysl.train.config import RunConfig


class Inner(Config):
    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9


class Model(Config):
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)
    text: str = ""
    number: float = 0.0


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_later_sources_and_then_overrides_replace_earlier_values(tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml", "inner: {lr: 1.0, momentum: 0.5}\ntext: first\nnumber: 1")
    second = write(tmp_path / "second.yaml", "inner: {lr: 2.0}\ntext: second")
    loaded = load(Model, [first, second, {"text": "mapping"}], ["inner.lr=3"])
    assert loaded == Model(inner=Inner(lr=3.0, momentum=0.5), text="mapping", number=1.0)


def test_lists_are_replaced_whole() -> None:
    assert load(Model, [{"sizes": [1, 2, 3]}], ["sizes=[7]"]).sizes == (7,)


@pytest.mark.parametrize("overrides", [["inner.name=adam", "inner.lr=5"], ["inner.lr=5", "inner.name=adam"]])
def test_another_name_restarts_a_mapping_but_keeps_what_overrides_say(overrides: list[str]) -> None:
    inner = load(Model, [{"inner": {"name": "sgd", "lr": 1.0, "momentum": 0.5}}], overrides).inner
    assert inner == Inner(name="adam", lr=5.0, momentum=0.9)


def test_the_same_name_keeps_the_rest_of_a_mapping() -> None:
    inner = load(
        Model, [{"inner": {"name": "sgd", "momentum": 0.5}}, {"inner": {"name": "sgd", "lr": 2}}]
    ).inner
    assert inner == Inner(lr=2.0, momentum=0.5)


def test_another_method_or_preset_leaves_no_field_of_the_one_before() -> None:
    changed = load(RunConfig, ["digits/matrix_ssl"], ["method.name=simclr", "views.preset=none"])
    assert changed.method == load(RunConfig, [{"method": {"name": "simclr"}}]).method
    assert changed.views.operations() == []
    assert changed.optimizer == load(RunConfig, ["digits/matrix_ssl"]).optimizer


@pytest.mark.parametrize(
    "overrides", [["method=simclr", "method.temperature=0.2"], ["method=simclr", "method={temperature: 0.2}"]]
)
def test_a_method_may_be_given_by_its_name_alone(overrides: list[str]) -> None:
    assert load(RunConfig, ["digits/matrix_ssl"], overrides).method.to_dict() == {
        **load(RunConfig, [{"method": "simclr"}]).method.to_dict(),
        "temperature": 0.2,
    }


def test_the_last_of_two_equal_overrides_counts() -> None:
    assert load(Model, [], ["number=1", "number=2"]).number == 2.0


def test_values_of_overrides_are_yaml_and_may_hold_an_equals_sign() -> None:
    loaded = load(Model, [], ["text=a=b", "number=-.5e2", "inner={name: x}"])
    assert (loaded.text, loaded.number, loaded.inner.name) == ("a=b", -50.0, "x")


@pytest.mark.parametrize(("text", "number"), [("1e-3", 1e-3), ("2E5", 2e5), ("+1.e2", 100.0), (".5e1", 5.0)])
def test_numbers_are_read_as_scientists_write_them(text: str, number: float) -> None:
    assert yaml.parse(f"lr: {text}", "file") == {"lr": number}


def test_what_is_dumped_is_read_back_as_it_was() -> None:
    values = {"a": 1e-05, "b": "1e-3", "c": [1, 2.5, None, True], "d": {"e": "no"}, "f": "ünï", "g": 1e300}
    assert yaml.parse(yaml.dump(values), "file") == values


def test_anchors_and_merge_keys_work() -> None:
    text = "base: &base {lr: 1}\ninner: {<<: *base, momentum: 0.5}"
    assert yaml.parse(text, "file")["inner"] == {"lr": 1, "momentum": 0.5}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(Model, [write(tmp_path / "empty.yaml", "# nothing\n")]) == Model()


def test_a_folder_of_a_recipes_name_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits" / "simclr").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load(RunConfig, ["digits/simclr"]).method.name == "simclr"


def test_a_file_is_found_before_a_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    write(tmp_path / "digits" / "simclr", "method: {name: simclr, temperature: 3.0}")
    monkeypatch.chdir(tmp_path)
    assert load(RunConfig, ["digits/simclr"]).method.to_dict()["temperature"] == 3.0


def test_the_shelf_names_nested_files_and_only_yaml() -> None:
    names = RECIPES.names()
    assert {"digits/matrix_ssl", "digits/simclr"} <= set(names)
    assert names == sorted(names)
    assert not [name for name in names if name.endswith((".yaml", ".py"))]


def test_a_name_with_dots_cannot_leave_the_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such recipe"):
        RECIPES.read("../recipes/digits/simclr")
    with pytest.raises(InputError, match="no such thing"):
        Shelf("raysl.recipes", "thing").read("absent")


def test_origins_name_the_last_source_of_each_leaf(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "inner: {lr: 1, momentum: 2}")
    _, origins = merge([{"inner": {"lr": 0}}, file], ["inner.momentum=3"])
    assert origins == {"inner.lr": str(file), "inner.momentum": "override 'inner.momentum=3'"}


def test_difference_lists_every_leaf_that_differs_and_nothing_else() -> None:
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "e": {}}
    new = {"a": 1, "b": {"c": 3, "d": [1]}, "f": None}
    assert difference(old, new) == ["b.c: 2 -> 3", "e: {} -> (absent)", "f: (absent) -> None"]
    assert difference(new, new) == []


def test_leaves_and_nested_are_inverse() -> None:
    assert list(leaves(nested("a.b.c", 1))) == [("a.b.c", 1)]
    assert list(leaves({"a": {}, "b": {"c": [1]}})) == [("a", {}), ("b.c", [1])]


def test_configs_cannot_be_changed_and_give_plain_values() -> None:
    model = Model()
    with pytest.raises(ValueError, match="frozen"):
        setattr(model, "text", "changed")  # noqa: B010 - the plain form is already an error to mypy
    assert model.to_dict() == {
        "inner": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "sizes": [1, 2],
        "text": "",
        "number": 0.0,
    }
