"""What a user's method may import: what is installed, because only its own file travels."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

from raysl.errors import InputError


def refuse_siblings(text: str, place: str, folder: Path | None) -> None:
    """Refuse a file that needs another beside it, which workers and the run's copy would not have.

    Args:
        text: the file, which compiles.
        place: what it is called in messages.
        folder: where it lies; None where it was carried here.

    Raises:
        InputError: names the line and the module.
    """
    for line, name in _imported(ast.parse(text)):
        if name.startswith("."):
            raise InputError(f"{place}:{line}: imports {name} relatively, but {_ALONE}")
        if folder is not None and _lies_in(folder, name) and not _installed(name, folder):
            raise InputError(f"{place}:{line}: imports {name}, which lies beside it, but {_ALONE}")


_ALONE = (
    "only this one file travels to workers and stays with the run; put the code into it, or install it as a "
    "package"
)


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, top-level module) of every import; a relative one begins with its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield node.lineno, "." * node.level + module if node.level else module.partition(".")[0]


def _lies_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _installed(name: str, folder: Path) -> bool:
    """Tell whether a module is found without looking into a folder, or belongs to an installed package."""
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != folder.resolve()]
    found = PathFinder.find_spec(name, elsewhere)
    if name in sys.builtin_module_names or (found is not None and found.origin is not None):
        return True
    return name in packages_distributions()
