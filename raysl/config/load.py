"""From YAML files, recipe names and `key=value` overrides to one validated config.

Sources are merged left to right, then the overrides as one more; a later value replaces an earlier one key by
key. Two exceptions keep a merge from mixing what does not belong together: lists are replaced whole, and a
mapping whose `name` or `preset` changes starts afresh (the fields of another method, optimizer or set of
views do not carry over). The order of overrides matters only between two of the same key: `optimizer.lr=1
optimizer.name=adam` keeps its `lr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from raysl.config import yaml
from raysl.config.base import Config
from raysl.config.package import RECIPES, Shelf
from raysl.errors import InputError

ConfigT = TypeVar("ConfigT", bound=Config)
Source = str | Path | Mapping[str, Any]
_SELECTORS = ("name", "preset")
_TYPES = {"int", "float", "str", "bool"}
_EXPECTED = {
    "missing": "a value; there is none",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
}


def load(
    model: type[ConfigT],
    sources: Sequence[Source] = (),
    overrides: Sequence[str] = (),
    shelf: Shelf = RECIPES,
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
    given: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source in sources:
        origin, layer = _read(source, shelf)
        values = _merged(values, layer)
        _note(origins, origin, layer)
    for text in overrides:
        override = _override(text)
        given = _merged(given, override)
        _note(origins, f"override {text!r}", override)
    return _merged(values, given), origins


def build(
    model: type[ConfigT], values: Mapping[str, Any], origins: Mapping[str, str] | None = None
) -> ConfigT:
    """Validate plain values; mistakes become one `InputError` with a line each.

    Validators that need to know where a value came from find it with `folder_of`.
    """
    try:
        return model.model_validate(dict(values), context={"origins": origins or {}})
    except ValidationError as error:
        raise InputError("\n".join(explain(error, origins or {}))) from None


def explain(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    """Return a line for each mistake that a validation found.

    Args:
        error: what it raised.
        origins: for each dotted key of a leaf the source it came from.
    """
    return list(_lines(error, origins))


def folder_of(key: str, context: Mapping[str, Any] | None) -> Path | None:
    """Return the folder of the YAML file that a key was read from, None where it came from elsewhere.

    Args:
        key: dotted key.
        context: the context of the validation that `build` began.
    """
    place = Path(_origin(key, (context or {}).get("origins", {})))
    return place.parent if place.is_file() else None


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


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise InputError(f"override {text!r}: expected dotted.key=value, such as optimizer.lr=0.1")
    return nested(key.strip(), yaml.parse(value, f"override {text!r}"))


def _note(origins: dict[str, str], origin: str, layer: Mapping[str, Any]) -> None:
    """Record where each leaf of a layer came from; the latest is kept last."""
    for key, _ in leaves(layer):
        origins.pop(key, None)
        origins[key] = origin


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    if any(selector in old and new.get(selector, old[selector]) != old[selector] for selector in _SELECTORS):
        return dict(new)
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if key == "method" and isinstance(before, str) and isinstance(value, Mapping):
            before = {"name": before}  # `method: simclr` is short for its name
        nest = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(before, value) if nest else value  # type: ignore[arg-type]
    return result


def _lines(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield one line for each key that is wrong; the branches of a union share theirs."""
    by_key: dict[str, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        by_key.setdefault(_key(item), []).append(item)
    for key, items in by_key.items():
        if any(_inside(other, key) for other in by_key):
            continue  # the inner key says more precisely what is wrong
        value = items[0]["input"]
        shown = "" if items[0]["type"] == "missing" or isinstance(value, dict | Config) else f" = {value!r}"
        told = ", or ".join(dict.fromkeys(map(_expectation, items))).replace(", or expected ", ", or ")
        yield ": ".join(part for part in (_origin(key, origins), key + shown, told) if part)


def _expectation(item: ErrorDetails) -> str:
    if item["type"] in {"unknown_key", "value_error"}:
        return item["msg"].removeprefix("Value error, ")
    return "expected " + _EXPECTED.get(item["type"], item["msg"].removeprefix("Input should be "))


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Return the latest source of a key, of a key inside it (a rule may join several) or of its list."""
    near = [
        where for name, where in origins.items() if name == key or _inside(name, key) or _inside(key, name)
    ]
    return near[-1] if near else ""


def _inside(key: str, outer: str) -> bool:
    return key != outer and (not outer or key.startswith(outer + "."))


def _key(item: ErrorDetails) -> str:
    """Return the dotted key an error is about, as the user would write it."""
    parts = list(item["loc"])
    # What an unknown key is called is the user's, even where it looks like one of pydantic's markers.
    unknown = [parts.pop()] if item["type"] == "unknown_key" else []
    return ".".join(str(part) for part in [*(part for part in parts if not _is_branch(part)), *unknown])


def _is_branch(part: int | str) -> bool:
    """Tell pydantic's markers of union branches and validators from keys a user wrote."""
    return isinstance(part, str) and ("(" in part or "[" in part or "-" in part or part in _TYPES)
