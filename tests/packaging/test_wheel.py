"""A wheel built from this checkout holds what an installed raysl needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
VECTORS = "tests/golden/data"
SOURCES = ("raysl", "search_spaces", VECTORS, "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

# The build backend's own hook: no pip, no download, no second environment.
BUILD = """
import sys, warnings
from setuptools import SetuptoolsDeprecationWarning, build_meta
warnings.simplefilter("error", SetuptoolsDeprecationWarning)
build_meta.build_wheel(sys.argv[1])
"""
LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from importlib.resources import files
def yaml(folder):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from yaml(entry)
        elif entry.name.endswith(".yaml"):
            yield str(entry)
json.dump({name: sorted(yaml(files(name))) for name in ("raysl.recipes", "raysl.search_spaces")}, sys.stdout)
"""
VERIFY = """
import json, sys
sys.path.insert(0, sys.argv[1])
from raysl.verify.certificate import shipped
from raysl.verify.reference import load_cases
json.dump({"vectors": str(shipped()), "cases": len(load_cases(shipped()))}, sys.stdout)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, since setuptools leaves folders behind that a later build would pack again."""
    tmp = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tmp / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp / "source" / name)
    run([sys.executable, "-c", BUILD, str(tmp)], cwd=tmp / "source")
    (built,) = tmp.glob("*.whl")
    return built


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def checkout(pattern: str) -> set[str]:
    """Return the checkout's files of a kind under the names the wheel gives them."""
    package = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "raysl").rglob(pattern)}
    spaces = {
        f"raysl/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "search_spaces").glob(pattern)
    }
    vectors = {f"raysl/verify/vectors/{path.name}" for path in (REPOSITORY / VECTORS).glob(pattern)}
    return package | spaces | vectors


def test_it_has_every_module_and_every_yaml_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("*.py", "*.yaml", "*.npz", "INDEX.json"):
        expected = checkout(pattern)
        assert expected
        assert {name for name in names if name.endswith(pattern.removeprefix("*"))} == expected
    templates = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "raysl/templates").glob("*.txt")}
    assert len(templates) == 4
    assert templates <= names
    lists = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "raysl/data/catalog/classes").glob("*.txt")
    }
    assert len(lists) == 3
    assert lists <= names
    assert "raysl/py.typed" in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"raysl"}


def test_its_metadata_names_licence_command_and_pythons(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)

    def text(ending: str) -> str:
        (name,) = (name for name in archive.namelist() if name.endswith(ending))
        return archive.read(name).decode()

    metadata = text(".dist-info/METADATA").splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: <3.14,>=3.11" in metadata
    assert "raysl = raysl.cli.main:main" in text(".dist-info/entry_points.txt")
    assert "Apache License" in text(".dist-info/licenses/LICENSE")


def test_the_reference_vectors_are_found_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    told = json.loads(run([sys.executable, "-c", VERIFY, str(tmp_path)], cwd=tmp_path))
    assert told["vectors"] == str(tmp_path / "raysl" / "verify" / "vectors")
    assert told["cases"] == len(json.loads((REPOSITORY / VECTORS / "INDEX.json").read_text())["cases"])


def test_recipes_and_search_spaces_are_found_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    found = json.loads(run([sys.executable, "-c", LOOK, str(tmp_path)], cwd=tmp_path))
    files = {str(Path(path).relative_to(tmp_path)) for paths in found.values() for path in paths}
    assert files == checkout("*.yaml")
