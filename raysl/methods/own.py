"""A method in a file of the user's: found, loaded, carried to other processes and kept with its run.

A config names it by its file and class, `./my_loss.py:MyMethod`. The text of that one file is the method: its
sha256 is part of the config, objects of its config class carry it wherever they are pickled to, and a run
directory keeps a copy. So no process but the first needs the file, and a run cannot go on with another one.
"""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, create_model

from raysl.config import nearest
from raysl.errors import InputError
from raysl.methods.base import Method, MethodConfig
from raysl.methods.own_imports import refuse_siblings

FOLDER = "method"
"""Where a run keeps its copy, within its directory."""

_KEY = "source_sha256"


@dataclass(frozen=True)
class Source:
    """The text of a user's method.

    Args:
        reference: file and class as the user wrote them, `./my_loss.py:MyMethod`.
        text: all of the file.
        path: where it was read; None where it was carried to this process.
    """

    reference: str
    text: str
    path: str | None = None

    @cached_property
    def sha256(self) -> str:
        """Digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Name of the file, without its folder."""
        return Path(self.reference.rpartition(":")[0]).name

    @property
    def class_name(self) -> str:
        """Name of the method's class."""
        return self.reference.rpartition(":")[2]

    @property
    def place(self) -> str:
        """What the file is called in messages and traces."""
        return self.path or f"<{self.file_name} {self.sha256[:12]}>"


class OwnConfig(MethodConfig):
    """What the config class of a user's method has beside its own fields."""

    source_sha256: str
    """Digest of the method's file."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as text and plain values; whoever unpickles needs no file."""
        source = _BOUND[type(self)][0]
        return _rebuild, (source.reference, source.text, self.to_dict())


# What was loaded in this process: the text by its digest, and for each config class its source and method.
_TEXTS: dict[str, str] = {}
_CLASSES: dict[tuple[str, str], type[MethodConfig]] = {}
_BOUND: dict[type[MethodConfig], tuple[Source, type[Method]]] = {}


def is_reference(name: object) -> bool:
    """Tell whether a method's name is a file, with or without a class."""
    return isinstance(name, str) and (name.endswith(".py") or name.rpartition(":")[0].endswith(".py"))


def find(reference: str, sha256: str | None = None, folder: Path | None = None) -> Source:
    """Find a method's file.

    Looked at are, with a digest, what this process has loaded and the copy in `method/` beside the config;
    then the path as it is, and the path from the config's folder. With a digest only that text will do.

    Args:
        reference: file and class.
        sha256: digest of the text that is wanted; None takes the file as it is.
        folder: folder of the config that names the method.

    Raises:
        InputError: no such file, or none with that text.
    """
    if reference.endswith(".py"):
        raise InputError(f"{reference}: name its class too, such as {reference}:MyMethod")
    if sha256 in _TEXTS:
        return Source(reference, _TEXTS[sha256])
    path = Path(reference.rpartition(":")[0])
    places = [path] if folder is None else list(dict.fromkeys([path, folder / path]))
    if sha256 is not None and folder is not None:
        places = [*kept_as(folder, path.name, sha256), *places]
    found = [Source(reference, _read(place), str(place)) for place in places if place.is_file()]
    if not found:
        others = " nor ".join(str(place) for place in places if place != path)
        told = f"{path} (nor {others})" if others else str(path)
        raise InputError(
            f"{told}: no such file; a method of your own is named by its file, from "
            "the folder the command runs in, and its class: ./my_loss.py:MyMethod"
        )
    for source in found:
        if sha256 is None or source.sha256 == sha256:
            return source
    raise InputError(
        f"{found[-1].path}: has changed since the config was written (sha256 {str(sha256)[:12]} -> "
        f"{found[-1].sha256[:12]}); put it back as it was, or take it as it is with method.{_KEY}=null and "
        "another --name"
    )


def kept_as(folder: Path, file_name: str, sha256: str) -> tuple[Path, Path]:
    """Return where a copy of a method may be: under its name or, where another has that, with its digest.

    Args:
        folder: the config's.
        file_name: the method's.
        sha256: digest of the text.
    """
    kept = folder / FOLDER / file_name
    return kept, kept.with_stem(f"{kept.stem}-{sha256[:12]}")


def bind(source: Source) -> type[MethodConfig]:
    """Load a method and return its config class, which carries the reference and the digest.

    Raises:
        InputError: the file cannot be imported, or has no such class, or no config for it; in one line.
    """
    key = (source.reference, source.sha256)
    if key not in _CLASSES:
        method, config = _classes(source)
        made = create_model(
            config.__name__,
            __base__=(OwnConfig, config),
            __module__=config.__module__,
            __doc__=config.__doc__,
            name=(_literal(source.reference), Field(source.reference, description="The method, a file's.")),
            source_sha256=(
                _literal(source.sha256),
                Field(source.sha256, description="Digest of the file; null takes the file as it is."),
            ),
        )
        bound = cast(type[MethodConfig], made)
        _CLASSES[key] = bound
        _BOUND[bound] = (source, method)
    _TEXTS[source.sha256] = source.text
    return _CLASSES[key]


def source_of(config: MethodConfig) -> Source | None:
    """Return the file of a config's method, None for a method that is installed."""
    bound = _BOUND.get(type(config))
    return None if bound is None else bound[0]


def method_of(config: MethodConfig) -> type[Method] | None:
    """Return the method class of a config of a user's file, None for a method that is installed."""
    bound = _BOUND.get(type(config))
    return None if bound is None else bound[1]


def method_of_class(config_class: type[MethodConfig]) -> type[Method]:
    """Return the method class that belongs to a class `bind` returned."""
    return _BOUND[config_class][1]


def _rebuild(reference: str, text: str, values: Mapping[str, Any]) -> MethodConfig:
    """Return a config from what its pickle holds."""
    return bind(Source(reference, text)).model_validate(dict(values))


def _literal(value: str) -> Any:
    return cast(Any, Literal)[value]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _classes(source: Source) -> tuple[type[Method], type[MethodConfig]]:
    """Return the method and its config class."""
    module, wanted = _module(source), source.class_name
    known = {name for name, value in vars(module).items() if _is_a(value, Method) and value is not Method}
    method = getattr(module, wanted, None)
    if method is None:
        hint = nearest(wanted, known) if known else "it defines no subclass of raysl.methods.base.Method"
        raise InputError(f"{source.place}: no class {wanted!r}; {hint}")
    if not _is_a(method, Method):
        raise InputError(
            f"{source.place}: {wanted} is not a subclass of raysl.methods.base.Method; make it one"
        )
    if inspect.isabstract(method):
        raise InputError(f"{source.place}: {wanted} has no forward(views, step); define it")
    config = getattr(method, "Config", None) or getattr(module, "Config", None)
    if config is None or not _is_a(config, MethodConfig):
        raise InputError(
            f"{source.place}: {wanted} has no Config; write class Config(raysl.methods.base.MethodConfig) in "
            "the class or the file"
        )
    if _KEY in config.model_fields:
        raise InputError(f"{source.place}: Config has a field {_KEY}, which is raysl's own; rename it")
    return method, config


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, type) and issubclass(value, kind)


def _module(source: Source) -> types.ModuleType:
    """Run the file once in this process, under a name that says its content, the same in every process."""
    name = f"raysl_own_{source.sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = source.place
    if source.path is None:
        # So that traces show its lines, and pydantic finds the documentation of its fields.
        lines = source.text.splitlines(keepends=True)
        linecache.cache[source.place] = (len(source.text), None, lines, source.place)
    text = source.text.removeprefix("\ufeff")
    try:
        code = compile(text, source.place, "exec")
        refuse_siblings(text, source.place, None if source.path is None else Path(source.path).parent)
        sys.modules[name] = module
        exec(code, vars(module))
    except InputError:
        sys.modules.pop(name, None)
        raise
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise InputError(
            f"{source.place}:{_line(error, source.place)}: {type(error).__name__}: {_first(error)}; the file "
            "must be importable"
        ) from error
    return module


def _first(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return text.strip().partition("\n")[0]


def _line(error: BaseException, place: str) -> int:
    """Return the last line of the file that an error passed."""
    if isinstance(error, SyntaxError) and error.filename == place:
        return error.lineno or 1
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == place:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
