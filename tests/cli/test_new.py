"""`raysl new method` writes what works as written, and overwrites nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raysl.config import load
from raysl.train.config import RunConfig
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space_file import load_space
from tests.cli.conftest import Commands

FILES = {"far_apart.py", "digits_far_apart.yaml", "far_apart_space.yaml", "test_far_apart.py"}


def test_what_it_writes_passes_trains_and_can_be_searched(
    raysl: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = raysl("new", "method", "far_apart", "--to", "mine", "--json")
    assert ended.json["class"] == "FarApart"
    assert {Path(file).name for file in ended.json["files"]} == FILES
    assert {file.name for file in (tmp_path / "mine").iterdir()} == FILES
    monkeypatch.chdir("mine")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_far_apart.py"],
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
    assert "5 passed" in tested.stdout
    done = raysl("pretrain", "digits_far_apart.yaml", "train.epochs=2", "--name", "far")
    assert done.code == 0, done.err
    assert (raysl.runs / "far" / "method" / "far_apart.py").is_file()
    assert raysl("evaluate", str(raysl.runs / "far")).code == 0
    built = Space(load_space("far_apart_space.yaml", ["trials=2"]))
    assert built.base.method.name == "./far_apart.py:FarApart"
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select=E,F,B", "--line-length=110", "."],
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout


def test_its_recipe_says_what_its_fields_default_to(raysl: Commands) -> None:
    raysl("new", "method", "far_apart")
    written = load(RunConfig, ["digits_far_apart.yaml"]).method
    assert written == type(written).model_validate({"name": written.name})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Far-Apart", "expected a Python name in lower case, such as my_loss"),
        ("class", "expected a Python name in lower case"),
        ("_x", "expected a Python name in lower case"),
        ("config", "config: its class would be Config, which means something else in the file"),
        ("torch", "torch.py would hide the module torch, which is installed"),
    ],
)
def test_names_that_cannot_be_are_refused(raysl: Commands, name: str, told: str) -> None:
    before = set(raysl.folder.iterdir())
    ended = raysl("new", "method", name)
    assert ended.code == 2
    assert told in ended.err
    assert set(raysl.folder.iterdir()) == before


def test_nothing_is_overwritten(raysl: Commands) -> None:
    mine = raysl.folder / "far_apart_space.yaml"
    mine.write_text("mine")
    ended = raysl("new", "method", "far_apart")
    assert ended.code == 2
    assert (
        ended.err
        == "raysl: far_apart_space.yaml: there already; choose another name or --to another folder\n"
    )
    assert mine.read_text() == "mine"
    assert not (raysl.folder / "far_apart.py").exists()
