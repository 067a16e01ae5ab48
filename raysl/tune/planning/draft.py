"""A space with mistakes, built all the same: what is wrong is taken out, so as not to hide the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raysl.config import explain, leaves, merge, nested
from raysl.errors import InputError
from raysl.tune.spaces.expression import Expression
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.spaces.space_file import space_values, unknown_override

_ROUNDS = 100
_GIVEN = "given values: "


@dataclass
class Draft:
    """What a space file says, without its mistakes.

    Args:
        mistakes: a line for each mistake so far.
        broken: keys that a mistake is about: nothing more can be said about those.
        parts: parts of the file that a mistake is about.
        space: the rest; None where too little is left.
    """

    mistakes: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    space: Space | None = None

    def note(self, text: str) -> None:
        """Add mistakes, a line each, but those that only follow from what is broken."""
        for line in text.splitlines():
            follows = bool(names_in(line) & self.broken) and "unknown key" not in line
            lacks = any(f"needs {part}" in line or f"one of {part}:" in line for part in self.parts)
            if not (follows or lacks) and line not in self.mistakes:
                self.mistakes.append(line)


def names_in(line: str) -> set[str]:
    """Return the words and dotted keys of a line, but not those that it proposes."""
    about = line.partition("; known: ")[0].partition("; did you mean ")[0]
    words = {word.rstrip(".") for word in re.findall(r"[A-Za-z_][\w.]*", about)}
    return words | {word.removeprefix("tied.").removeprefix("search.") for word in words}


def draft(source: str | Path | Mapping[str, Any], overrides: Sequence[str]) -> Draft:
    """Read a space and everything that is wrong with it by itself.

    Args:
        source: name, path or value, as `load_space`.
        overrides: `key=value` strings.

    Raises:
        InputError: there is no such file, or it is no YAML mapping.
    """
    found, kept = Draft(), list[str]()
    for text in overrides:
        try:
            merge([], [text])
        except InputError as error:
            found.note(str(error))
            continue
        if (wrong := unknown_override(text)) is None:
            kept.append(text)
        else:
            found.note(wrong)
    config = _config(found, *space_values(source, kept))
    if config is None:
        return found
    config = _with_a_base(found, config)
    if config is None:
        return found
    while config is not None and (mistakes := Space(config, checked=False).mistakes()):
        before = len(found.broken)
        for line in mistakes:
            found.note(line.replace(_GIVEN, "overrides: "))
        for line, tried in mistakes.items():
            named = names_in(line) & {*config.search, *config.tied}
            # What came up with every key is about none of them.
            found.broken |= named or ({*tried} if len(tried) < len(config.search) else set())
        config = _without(config, found.broken) if len(found.broken) > before else None
    found.space = None if config is None else Space(config)
    return found


def _config(found: Draft, values: dict[str, Any], origins: dict[str, str]) -> SpaceConfig | None:
    """Validate, and take out what is wrong until nothing is."""
    met: set[tuple[int | str, ...]] = set()
    for _ in range(_ROUNDS):
        try:
            return SpaceConfig.model_validate(values, context={"origins": origins})
        except ValidationError as error:
            items = error.errors(include_url=False)
            if all(item["type"] == "missing" and str(item["loc"][0]) in found.parts for item in items):
                return None  # only what was taken out is missing
            for line in explain(error, origins):
                found.note(line)
            places = dict.fromkeys(tuple(item["loc"]) for item in items)
        for place in reversed(places):
            if not place:
                return None
            found.parts.add(str(place[0]))
            if place[0] in ("search", "tied") and len(place) > 1:
                found.broken.add(str(place[1]))
            values = _cured(values, place, again=place in met)
            met.add(place)
    return None


def _cured(values: dict[str, Any], place: tuple[int | str, ...], *, again: bool) -> dict[str, Any]:
    """Return the values without what is at a place, or as much of the way to it as there is.

    A wrong domain is replaced by one value of its own first, because its key is searched and others name it.
    """
    if place[0] == "search" and len(place) > 1 and not again:
        key = str(place[1])
        domain = values["search"].get(key)
        said = domain if isinstance(domain, Mapping) else {}
        choices = said.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else said.get("low")
        finite = not isinstance(choice, float) or math.isfinite(choice)
        if not (finite and isinstance(choice, bool | int | float | str)):
            choice = 1
        return {
            **values,
            "search": {**values["search"], key: {"type": "categorical", "choices": [choice]}},
        }
    left: dict[str, Any] = _dropped(values, place)
    return left


def _dropped(values: Any, place: Sequence[int | str]) -> Any:
    """Return a copy without the deepest value on the way to a place."""
    for step, part in enumerate(place):
        # A part that is no key is pydantic's name of a branch.
        if isinstance(values, Mapping) and part in values:
            rest = {key: value for key, value in values.items() if key != part}
            return rest if _ends(values[part], place[step + 1 :]) else _put(values, part, place[step + 1 :])
        if isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            if _ends(values[part], place[step + 1 :]):
                return [value for number, value in enumerate(values) if number != part]
            return [
                _dropped(v, place[step + 1 :]) if number == part else v for number, v in enumerate(values)
            ]
    return values


def _put(values: Mapping[Any, Any], part: int | str, rest: Sequence[int | str]) -> dict[Any, Any]:
    return {key: _dropped(value, rest) if key == part else value for key, value in values.items()}


def _ends(value: Any, rest: Sequence[int | str]) -> bool:
    """Tell whether none of the parts leads further into a value."""
    if isinstance(value, Mapping):
        return not any(part in value for part in rest)
    if isinstance(value, list | tuple):
        return not any(isinstance(part, int) and part < len(value) for part in rest)
    return True


def _with_a_base(found: Draft, config: SpaceConfig) -> SpaceConfig | None:
    """Return the space without the overrides and proxies that its recipe refuses."""
    for _ in range(_ROUNDS):
        try:
            Space(config, checked=False)
        except InputError as error:
            lines = str(error).replace(_GIVEN, "overrides: ")
        else:
            return config
        found.note(lines)
        if "proxy" in names_in(lines.partition(" =")[0]) or lines.startswith("proxy."):
            found.parts.add("proxy")
            config = config.model_copy(update={"proxy": ()})
            continue
        spread, _ = merge([nested(key, value) for key, value in config.overrides.items()])
        given = dict(leaves(spread))
        kept = {key: value for key, value in given.items() if not names_in(lines) & set(_prefixes(key))}
        if len(kept) == len(given):
            return None
        found.broken |= given.keys() - kept.keys()
        config = config.model_copy(update={"overrides": kept})
    return None


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _without(config: SpaceConfig, broken: set[str]) -> SpaceConfig | None:
    """Return the space without what is broken and what hangs on it; None where nothing is searched then."""
    tied = {
        key: text for key, text in config.tied.items()
        if key not in broken and not Expression(text).names & broken
    }  # fmt: skip
    gone = broken | (config.tied.keys() - tied.keys())
    constraints = tuple(
        text for text in config.constraints if text not in broken and not Expression(text).names & gone
    )
    used = set[str]().union(*(Expression(text).names for text in [*tied.values(), *constraints]))
    left = {
        key: domain for key, domain in config.search.items()
        if key not in gone and not domain.when.keys() & gone and ("." in key or key in used or not gone)
    }  # fmt: skip
    priors = tuple({key: value for key, value in prior.items() if key in left} for prior in config.priors)
    changes = {"search": left, "tied": tied, "constraints": constraints, "priors": priors}
    return config.model_copy(update=changes) if left else None
