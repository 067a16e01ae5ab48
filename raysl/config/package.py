"""Finding YAML by path or by the name it has in the package (recipes, search spaces)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from raysl.config.base import nearest
from raysl.errors import InputError


@dataclass(frozen=True)
class Shelf:
    """A folder of YAML files that ships inside the package.

    Args:
        package: import name of the folder, such as `raysl.recipes`.
        noun: what one file is called in messages.
    """

    package: str
    noun: str

    def names(self) -> list[str]:
        """Return every name on the shelf, folders included (`digits/simclr`), sorted."""
        return sorted(_walk(resources.files(self.package), ""))

    def read(self, reference: str | Path) -> tuple[str, str]:
        """Return (where it was found, its text) for a file path or a name on the shelf.

        Raises:
            InputError: neither a file nor a name; the message gives the nearest spelling.
        """
        path = Path(reference)
        if path.is_file():
            return str(path), _text(path)
        names = self.names()
        if path.suffix in {".yaml", ".yml"}:
            raise InputError(f"{reference}: no such {self.noun} file")
        if str(reference) not in names and (path / "config.yaml").is_file():
            raise InputError(f"{reference}: is a run directory; give {path / 'config.yaml'} for its config")
        if str(reference) not in names:
            raise InputError(
                f"{reference}: no such {self.noun} or file; {nearest(str(reference), names)} "
                "(raysl config list shows all)"
            )
        return str(reference), _text(resources.files(self.package).joinpath(f"{reference}.yaml"))


RECIPES = Shelf("raysl.recipes", "recipe")
SEARCH_SPACES = Shelf("raysl.search_spaces", "search space")


def _walk(folder: Traversable, prefix: str) -> list[str]:
    found: list[str] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            found.append(prefix + entry.name.removesuffix(".yaml"))
    return found


def _text(file: Traversable) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
