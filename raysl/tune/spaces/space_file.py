"""Reads a search-space file and changes it by overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from raysl.config import SEARCH_SPACES, build, leaves, merge, nearest, nested
from raysl.errors import InputError
from raysl.train.config import RunConfig
from raysl.tune.spaces.expression import Expression
from raysl.tune.spaces.space import SpaceConfig


def load_space(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SpaceConfig:
    """Load a search space by name, path or value, changed by `key=value` overrides.

    A key of the space itself (`trials=8`, `search.method.mu.high=1`, `search.method.mu=null` to drop it)
    changes the space; any other is a key of the run's config, set in every trial and no longer searched, nor
    tied to other keys. `train.epochs=8` means `epochs=8`. Priors that give a key which is no longer searched
    another value are left out; the first, with which others are compared, only loses the key.

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
    before = values.get("search") or {}
    _change_search(values, changes.get("search", {}))
    if fixed:
        dotted = {"overrides": _nested_all(values.get("overrides") or {})}
        given = merge([], fixed)[0]
        more, _ = merge([dotted, {"overrides": given}])
        values["overrides"] = more["overrides"]
        _fix(values, dict(leaves(given)))
    gone = before.keys() - values["search"].keys()
    if gone and isinstance(values.get("priors"), list):
        given = dict(leaves(values.get("overrides") or {}))
        values["priors"] = _priors_without(gone, values["priors"], given)
    return stem | values, origins


def _fix(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Neither search nor tie what is given; a tie that names its own key goes on from the given value."""
    ties, constraints = values.get("tied"), values.get("constraints")
    ties = ties if isinstance(ties, Mapping) else {}
    constraints = constraints if isinstance(constraints, list) else []
    gone = [key for key, text in ties.items() if key in given and key not in _names(text)]
    left = {key: text for key, text in ties.items() if key not in gone}
    if gone:
        values["tied"] = left
    # Names of the user's own that only those ties used mean nothing any more.
    used = set[str]().union(*map(_names, [*left.values(), *constraints]))
    idle = {name for key in gone for name in _names(ties[key]) if "." not in name} - used
    search = values["search"].items()
    values["search"] = {key: domain for key, domain in search if key not in given and key not in idle}


def _names(text: Any) -> set[str]:
    try:
        return Expression(str(text)).names
    except ValueError:  # said where the space is validated
        return set()


def _priors_without(gone: Set[str], priors: list[Any], given: Mapping[str, Any]) -> list[Any]:
    """Return priors without keys that are no longer searched, and without those that say otherwise."""
    kept = list[Any]()
    for number, prior in enumerate(priors):
        if not isinstance(prior, Mapping):
            kept.append(prior)
            continue
        # A name of the user's own says nothing without its ties.
        told = {key: value for key, value in prior.items() if key in gone and "." in key}
        if number == 0 or all(key in given and given[key] == value for key, value in told.items()):
            kept.append({key: value for key, value in prior.items() if key not in gone})
    return kept


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
