"""Every mistake in a config is one line: where, which key, which value, what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysl.config import RECIPES, load, merge, yaml
from raysl.errors import InputError
from raysl.train.config import RunConfig


def message(*overrides: str, base: str | Path = "digits/matrix_ssl") -> str:
    with pytest.raises(InputError) as caught:
        load(RunConfig, [base], overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epoch=3", "train.epoch = 3: unknown key; did you mean 'epochs'?"),
        ("trian.epochs=3", "trian: unknown key; did you mean 'train'?"),
        ("train.zzz=3", "train.zzz = 3: unknown key; known: accumulation, accumulation_loss, batch_size"),
        ("method.gama=1", "method.gama = 1: unknown key; did you mean 'gamma'?"),
        ("method.projector.layer=1", "method.projector.layer = 1: unknown key; did you mean 'layers'?"),
        ("method.name=simlcr", "method: no method 'simlcr'; did you mean 'simclr'?"),
        ("method=5", "method = 5: expected a method with its name; known: barlow_twins, "),
        ("train.epochs=0", "train.epochs = 0: expected greater than or equal to 1"),
        ("train.epochs=many", "train.epochs = 'many': expected a valid integer"),
        ("train.precision=fp16", "train.precision = 'fp16': expected 'float32', 'bf16' or 'float64'"),
        ("optimizer.lr=.nan", "optimizer.lr = nan: expected a finite number"),
        ("optimizer.betas=[1,0.5]", "optimizer.betas.0 = 1: expected less than 1"),
        ("optimizer.betas=0.9", "optimizer.betas = 0.9: expected a list"),
        ("optimizer=null", "optimizer = None: expected a mapping of keys to values"),
        (
            "schedule.warmup=ten",
            "schedule.warmup = 'ten': expected epochs (10), a share of the horizon ('5%')",
        ),
        ("schedule.milestones=[3]", "schedule: milestones belong to a step schedule, not to cosine"),
        ("schedule.name=step", "schedule: a step schedule needs milestones"),
        ("method.momentum=2", "method.momentum = 2: expected a momentum from 0 to 1, or its time constant"),
        ("method.momentum=abc%", "method.momentum = 'abc%': expected a momentum from 0 to 1"),
        ("method.momentum=true", "method.momentum = True: expected a momentum from 0 to 1"),
        ("checkpoint.every=0", "checkpoint.every = 0: expected epochs (1) or minutes ('10 min')"),
        ("checkpoint.every=0 min", "checkpoint.every = '0 min': expected epochs (1) or minutes"),
        ("checkpoint.every=1.5", "checkpoint.every = 1.5: expected epochs (1) or minutes"),
        ("views.jitter.p=2", "views.jitter.p = 2: expected less than or equal to 1, or a list"),
        ("views.jitter.p=[0.1,2]", "views.jitter.p.1 = 2: expected less than or equal to 1"),
        ("views.preset=mecc", "views: no views preset 'mecc' (there are none, digits, "),
        ("views.count=3", "method matrix_ssl takes 2 views, but views gives 3"),
        ("data.mean=[0.5]", "data: mean and std belong together"),
        ("train={1: 2}", "train.1 = 2: unknown key"),
    ],
)
def test_a_wrong_value_is_told_in_one_line_that_begins_with_its_override(override: str, told: str) -> None:
    line = message(override)
    assert line.startswith(f"override {override!r}: {told}")
    assert "\n" not in line


@pytest.mark.parametrize("override", ["epochs", "=3", "a..b=3", ".a=3"])
def test_an_override_that_is_none_is_told(override: str) -> None:
    assert message(override) == (
        f"override {override!r}: expected dotted.key=value, such as optimizer.lr=0.1"
    )


def test_yaml_errors_name_the_place() -> None:
    assert message("train.seed=[1") == (
        "override 'train.seed=[1': line 1, column 3: expected ',' or ']', but got '<stream end>'"
    )
    with pytest.raises(InputError, match=r"^file: line 3, column 1: key 'a' is given twice$"):
        yaml.parse("a: 1\nb: 2\na: 3", "file")
    with pytest.raises(InputError, match=r"^file: line 1, column 2: a key must be a word$"):
        yaml.parse("{[1]: 2}", "file")
    with pytest.raises(InputError, match=r"^file: .*tab|^file: line 2"):
        yaml.parse("a:\n\tb: 1", "file")


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: simclr\ntrain: {epoch: 3}", encoding="utf-8")
    assert message(base=file) == f"{file}: train.epoch = 3: unknown key; did you mean 'epochs'?"


def test_each_mistake_has_its_own_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: simclr\ntrain: {epochs: 0, seed: -1}", encoding="utf-8")
    assert message("optimizer.lr=0", base=file).splitlines() == [
        "override 'optimizer.lr=0': optimizer.lr = 0: expected greater than 0",
        f"{file}: train.epochs = 0: expected greater than or equal to 1",
        f"{file}: train.seed = -1: expected greater than or equal to 0",
    ]


def test_a_missing_method_is_told_without_a_source() -> None:
    with pytest.raises(InputError, match=r"^method: expected a value; there is none$"):
        load(RunConfig, [{"train": {"epochs": 1}}])


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("digits/simcrl", "digits/simcrl: no such recipe or file; did you mean 'digits/simclr'?"),
        ("absent.yaml", "absent.yaml: no such recipe file"),
        ("", "no such recipe or file"),
    ],
)
def test_a_missing_recipe_is_told(reference: str, told: str) -> None:
    assert told in message(base=reference)


def test_files_that_are_no_configs_are_told(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]", encoding="utf-8")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00a")
    assert message(base=tmp_path / "list.yaml").endswith("expected a mapping of keys to values, got list")
    assert "cannot be read" in message(base=tmp_path / "bytes.yaml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such recipe or file"):
        merge([tmp_path], (), RECIPES)
