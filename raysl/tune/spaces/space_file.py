"""Reads a search-space file and changes it by overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysl.config import SEARCH_SPACES, build, merge, nearest, nested
from raysl.errors import InputError
from raysl.train.config import RunConfig
from raysl.tune.spaces.space import SpaceConfig


def load_space(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SpaceConfig:
    """Load a search space by name, path or value, changed by `key=value` overrides.

    A key of the space itself (`trials=8`, `search.method.mu.high=1`, `search.method.mu=null` to drop it)
    changes the space; any other is a key of the run's config, set in every trial and no longer searched.
    `train.epochs=8` means `epochs=8`.

    Raises:
        InputError: one line per mistake.
    """
    for text in overrides:
        if (wrong := unknown_override(text)) is not None:
            raise InputError(wrong)
    return build(SpaceConfig, *space_values(source, overrides))


def unknown_override(text: str) -> str | None:
    """Return what is wrong with an override whose key is neither the space's nor a run's, or None."""
    known = set(SpaceConfig.model_fields) | set(RunConfig.model_fields)
    first = text.partition("=")[0].strip().split(".")[0]
    return None if first in known else f"override {text!r}: {first}: unknown key; {nearest(first, known)}"


def space_values(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what `load_space` validates.

    Returns:
        The values of the space, and for each dotted key of a leaf the source it came from.

    Raises:
        InputError: the file or an override cannot be read.
    """
    overrides = [
        f"epochs={value}" if key.strip() == "train.epochs" and equals else text
        for text in overrides
        for key, equals, value in [text.partition("=")]
    ]
    own = [text for text in overrides if text.partition("=")[0].split(".")[0] in SpaceConfig.model_fields]
    fixed = [text for text in overrides if text not in own]
    stem = {} if isinstance(source, Mapping) else {"name": Path(source).stem}
    values, origins = merge([source], [text for text in own if not text.startswith("search.")], SEARCH_SPACES)
    for key in ("search", "overrides"):
        if not isinstance(values.get(key) or {}, Mapping):
            where = f"{origins[key]}: " if key in origins else ""
            raise InputError(f"{where}{key} = {values[key]!r}: expected a mapping of keys to values")
    changes, _ = merge([], [text for text in own if text.startswith("search.")], SEARCH_SPACES)
    _change_search(values, changes.get("search", {}))
    if fixed:
        dotted = {"overrides": _nested_all(values.get("overrides") or {})}
        more, _ = merge([dotted, {"overrides": merge([], fixed)[0]}])
        values["overrides"] = more["overrides"]
        keys = {text.partition("=")[0].strip() for text in fixed}
        values["search"] = {
            key: domain for key, domain in values.get("search", {}).items() if key not in keys
        }
    return stem | values, origins


def _nested_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Spread dotted keys of a mapping into nested mappings."""
    merged, _ = merge([nested(key, value) for key, value in values.items()])
    return merged


def _change_search(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Apply `search.<key>={...}`, `search.<key>.<field>=value`, `search.<key>=null`; keys hold dots."""
    search = dict(values.get("search") or {})
    for key, change in _domain_changes(changes, search):
        if change is None:
            search.pop(key, None)
        elif not isinstance(change, Mapping):
            search[key] = change
        else:
            # Another type of domain has other fields, so nothing of the old one is kept.
            old = search.get(key)
            old = old if isinstance(old, Mapping) else {}
            same = change.get("type", old.get("type")) == old.get("type")
            search[key] = {**(old if same else {}), **change}
    values["search"] = search


def _domain_changes(
    changes: Mapping[str, Any], search: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (searched key, what is said about it) from nested overrides."""
    for name, change in changes.items():
        key = prefix + name
        if key in search or not isinstance(change, Mapping) or isinstance(change.get("type"), str):
            yield key, change
        else:
            yield from _domain_changes(change, search, f"{key}.")
