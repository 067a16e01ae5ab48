"""What `raysl new` writes: a small complete method with its recipe, search space and test."""

from __future__ import annotations

import importlib.util
import keyword
import re
import string
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from raysl.errors import InputError

_FILES = {
    "{}.py": "method.py.txt",
    "digits_{}.yaml": "recipe.yaml.txt",
    "{}_space.yaml": "space.yaml.txt",
    "test_{}.py": "test.py.txt",
}


@dataclass(frozen=True)
class NewMethod:
    """A method that was written.

    Args:
        name: its name, that of its file.
        class_name: the name of its class.
        files: what was written.
    """

    name: str
    class_name: str
    files: tuple[Path, ...]

    def describe(self) -> str:
        """Return what was written and what to do with it, for people."""
        folder = self.files[0].parent
        commands = [
            f"pytest test_{self.name}.py",
            f"raysl pretrain digits_{self.name}.yaml",
            f"raysl sweep {self.name}_space.yaml trials=4",
            f"raysl verify ./{self.name}.py:{self.class_name}",
        ]
        if folder != Path():
            commands.insert(0, f"cd {folder}")
        return "\n".join([*(f"wrote {file}" for file in self.files), *(f"next: {line}" for line in commands)])


def new_method(name: str, folder: str | Path = ".") -> NewMethod:
    """Write a method, its recipe, search space and test.

    Args:
        name: what it is called, a Python name in lower case such as `my_loss`.
        folder: where to; made when it is not there.

    Raises:
        InputError: the name cannot be used, or a file of that name is there.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or not name[0].isalpha():
        raise InputError(f"{name!r}: expected a Python name in lower case, such as my_loss")
    target, package = Path(folder), resources.files(__name__)
    templates = {
        target / file.format(name): package.joinpath(template).read_text(encoding="utf-8")
        for file, template in _FILES.items()
    }
    if there := [str(file) for file in templates if file.exists()]:
        raise InputError(f"{', '.join(there)}: there already; choose another name or --to another folder")
    if importlib.util.find_spec(name) is not None:
        raise InputError(f"{name}.py would hide the module {name}, which is installed; choose another name")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    if any(re.search(rf"\b{class_name}\b", text) for text in templates.values()):
        raise InputError(
            f"{name}: its class would be {class_name}, which means something else in the file; "
            f"choose another name, such as {name}_loss"
        )
    words = {
        "name": name,
        "class_name": class_name,
        "title": name.replace("_", " ").strip().capitalize(),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file, text in templates.items():
            file.write_text(string.Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: cannot be written to ({error.strerror}); choose another --to") from None
    return NewMethod(name, class_name, tuple(templates))
