"""Self-supervised methods, one file each, found by file name.

`raysl/methods/<name>.py` holds a `Config` (its fields) and a `Method` (its modules and `forward`). Adding a
method adds a file here, its equations in `raysl.losses`, a recipe, a search space and a test; nothing else
names it. Methods from elsewhere are named in two ways: a package offers such a module under the entry point
group `raysl.methods` (`name = package.module`), and a single file is named as `./my_loss.py:MyMethod`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from raysl.config import nearest
from raysl.errors import InputError

if TYPE_CHECKING:
    from raysl.methods.base import Method, MethodConfig, Plan
    from raysl.models.backbones import Backbone

GROUP = "raysl.methods"
"""Entry point group of installed methods."""

_SUPPORT = {"base", "own", "own_imports", "student_teacher"}


def method_names() -> list[str]:
    """Return the name of every installed method, those of other packages included, sorted."""
    return sorted({*_built_in(), *_offered()})


def read_config(values: Mapping[str, Any], folder: Path | None = None) -> MethodConfig:
    """Return the config that plain values mean.

    Args:
        values: the fields; `name` chooses the method.
        folder: where the values were read from; a user's own method is looked for there as well.

    Raises:
        InputError: no such method.
        pydantic.ValidationError: a field is wrong.
    """
    from raysl.methods import own

    given = dict(values)
    if not own.is_reference(given["name"]):
        return config_class(given["name"]).model_validate(given)
    if given.get("source_sha256") is None:
        given.pop("source_sha256", None)
    source = own.find(given["name"], given.get("source_sha256"), folder)
    return own.bind(source).model_validate(given)


def config_class(name: str) -> type[MethodConfig]:
    """Return the config class of a method.

    Args:
        name: a method's name, or the file and class of one's own, `./my_loss.py:MyMethod`.

    Raises:
        InputError: no method of that name; the message gives the nearest one.
    """
    from raysl.methods import own

    if own.is_reference(name):
        return own.bind(own.find(name))
    found: type[MethodConfig] = _module(name).Config
    return found


def method_class(method: str | MethodConfig) -> type[Method]:
    """Return the module class of a method, built as `Method(config, backbone, plan)`.

    Args:
        method: its config, or its name as `config_class` takes it.

    Raises:
        InputError: no method of that name.
    """
    from raysl.methods import own

    if isinstance(method, str):
        if own.is_reference(method):
            return own.method_of_class(config_class(method))
        found: type[Method] = _module(method).Method
        return found
    return own.method_of(method) or method_class(method.name)


def build_method(config: MethodConfig, backbone: Backbone, plan: Plan) -> Method:
    """Build a method around a backbone.

    Args:
        config: its config.
        backbone: the student's backbone.
        plan: the lengths of the job.

    Raises:
        InputError: a setting that cannot be, or a method that keeps its backbone under another name.
    """
    method = method_class(config)(config, backbone, plan)
    if getattr(method, "backbone", None) is not backbone:
        raise InputError(
            f"method {config.name}: self.backbone is not the backbone it was given, which is what is judged "
            "and exported; set it in __init__"
        )
    return method


def _built_in() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__)} - _SUPPORT


@cache
def _offered() -> dict[str, EntryPoint]:
    """Return what other packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _module(name: str) -> ModuleType:
    """Return a method's module: one of ours, or one that an installed package offers."""
    if name not in method_names():
        raise InputError(f"no method {name!r}; {nearest(str(name), method_names())}")
    if name not in _offered():
        return importlib.import_module(f"raysl.methods.{name}")
    if name in _built_in():
        raise InputError(
            f"method {name!r}: is raysl's own, but {_told(_offered()[name])} has that name too; rename it"
        )
    return _offered_module(_offered()[name])


def _told(point: EntryPoint) -> str:
    return f"the entry point {point.value} of group {GROUP}"


def _offered_module(point: EntryPoint) -> ModuleType:
    """Import what an entry point names.

    Raises:
        InputError: it cannot be imported or is not a module with a config of that name and a method.
    """
    from raysl.methods.base import Method, MethodConfig

    told = f"method {point.name!r}, {_told(point)}"
    try:
        module = point.load()
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"{told}: cannot be imported: {type(error).__name__}: {first}") from error
    if not isinstance(module, ModuleType):
        raise InputError(f"{told}: is not a module; name a module with a Config and a Method")
    for attribute, kind in (("Config", MethodConfig), ("Method", Method)):
        found = getattr(module, attribute, None)
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise InputError(
                f"{told}: has no {attribute} that is a raysl.methods.base.{kind.__name__}; name a module "
                "with a Config and a Method"
            )
    default = module.Config.model_fields["name"].default
    if default != point.name:
        raise InputError(f"{told}: its Config has name = {default!r}; give it the entry point's name")
    return module
