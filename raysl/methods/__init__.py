"""Self-supervised methods, one file each, found by file name.

`raysl/methods/<name>.py` holds a `Config` (its fields) and a `Method` (its modules and `forward`). Adding a
method adds a file here, its equations in `raysl/losses`, a recipe, a search space and a test; nothing else
names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from raysl.config import nearest
from raysl.errors import InputError

if TYPE_CHECKING:
    from raysl.methods.base import Method, MethodConfig

_SUPPORT = {"base"}


def method_names() -> list[str]:
    """Return the name of every method, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - _SUPPORT)


def config_class(name: str) -> type[MethodConfig]:
    """Return the config class of a method.

    Raises:
        InputError: no method of that name; the message gives the nearest one.
    """
    if name not in method_names():
        raise InputError(f"no method {name!r}; {nearest(str(name), method_names())}")
    found: type[MethodConfig] = importlib.import_module(f"raysl.methods.{name}").Config
    return found


def method_class(name: str) -> type[Method]:
    """Return the module class of a method, built as `Method(config, backbone, plan)`."""
    found: type[Method] = importlib.import_module(f"raysl.methods.{name}").Method
    return found
