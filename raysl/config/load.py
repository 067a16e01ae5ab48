"""From YAML files, recipe names and `key=value` overrides to one validated config.

Sources are merged left to right, overrides last; a later value replaces an earlier one key by key. Two exceptions keep a
merge from mixing what does not belong together: lists are replaced whole, and a mapping whose `name` or `preset` changes
starts afresh (the fields of another method, optimizer or set of views do not carry over).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from raysl.config import yaml
from raysl.config.base import Config
from raysl.config.package import RECIPES, Shelf
from raysl.errors import InputError

ConfigT = TypeVar("ConfigT", bound=Config)
Source = str | Path | Mapping[str, Any]
_SELECTORS = ("name", "preset")


def load(
    model: type[ConfigT], sources: Sequence[Source] = (), overrides: Sequence[str] = (), shelf: Shelf = RECIPES
) -> ConfigT:
    """Build a config from its sources.

    Args:
        model: the config class.
        sources: paths, names on the shelf, or mappings, merged left to right.
        overrides: `dotted.key=value` strings, the value in YAML.
        shelf: where names are looked up.

    Raises:
        InputError: one line per mistake, with file, key, value, what was expected and the nearest spelling.
    """
    return build(model, *merge(sources, overrides, shelf))


def merge(
    sources: Sequence[Source], overrides: Sequence[str] = (), shelf: Shelf = RECIPES
) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge sources and overrides without validating them.

    Returns:
        The merged values, and for each dotted key of a leaf the source it came from.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = [_read(source, shelf) for source in sources] + [_override(text) for text in overrides]
    for origin, layer in layers:
        values = _merged(values, layer)
        origins.update((key, origin) for key, _ in leaves(layer))
    return values, origins


def build(model: type[ConfigT], values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> ConfigT:
    """Validate plain values; mistakes become one `InputError` with a line each."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError("\n".join(_lines(error, origins or {}))) from None


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every value that is not itself a mapping."""
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{dotted}.")
        else:
            yield dotted, value


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return `key: old -> new` for every leaf in which two configs differ."""
    before, after = dict(leaves(old)), dict(leaves(new))
    missing = "(absent)"
    return [
        f"{key}: {before.get(key, missing)} -> {after.get(key, missing)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, missing) != after.get(key, missing)
    ]


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """Return `{"a": {"b": value}}` for `a.b`."""
    for key in reversed(dotted.split(".")):
        value = {key: value}
    result: dict[str, Any] = value
    return result


def _read(source: Source, shelf: Shelf) -> tuple[str, Mapping[str, Any]]:
    if isinstance(source, Mapping):
        return "given values", source
    origin, text = shelf.read(source)
    values = yaml.parse(text, origin)
    if values is None:
        return origin, {}
    if not isinstance(values, dict):
        raise InputError(f"{origin}: expected a mapping of keys to values, got {type(values).__name__}")
    return origin, values


def _override(text: str) -> tuple[str, dict[str, Any]]:
    key, equals, value = text.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise InputError(f"override {text!r}: expected dotted.key=value, such as optimizer.lr=0.1")
    return f"override {text!r}", nested(key.strip(), yaml.parse(value, f"override {text!r}"))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    if any(selector in old and new.get(selector, old[selector]) != old[selector] for selector in _SELECTORS):
        return dict(new)
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        nest = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(before, value) if nest else value  # type: ignore[arg-type]
    return result


def _lines(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"] if not _is_branch(part))
        origin = next((where for name, where in origins.items() if name == key or name.startswith(key + ".")), "")
        message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        expectation = message if item["type"] in {"unknown_key", "value_error"} else f"expected {message}"
        value = "" if item["type"] == "missing" or isinstance(item["input"], dict) else f" = {item['input']!r}"
        yield f"{origin + ': ' if origin else ''}{key}{value}: {expectation}"


def _is_branch(part: int | str) -> bool:
    """Tell pydantic's markers of union branches and validators from keys a user wrote."""
    return isinstance(part, str) and ("(" in part or "[" in part or part in {"int", "float", "str", "bool"})
