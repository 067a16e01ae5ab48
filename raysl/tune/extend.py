"""Changing what may change of a sweep that is there: more trials, a larger budget, further seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysl.config import build, difference, leaves, merge, nearest
from raysl.errors import InputError
from raysl.tune.records.folder import CHANGEABLE, read_space
from raysl.tune.spaces.space import SpaceConfig


@dataclass(frozen=True)
class Extension:
    """A sweep's space, changed.

    Args:
        directory: the sweep's directory.
        space: the space from now on.
        changes: `key: old -> new`, one each.
    """

    directory: Path
    space: SpaceConfig
    changes: tuple[str, ...]

    def describe(self) -> str:
        """Return it for people."""
        return "\n".join(f"{self.directory}: {line}" for line in self.changes or ("nothing changes",))


def extended(directory: str | Path, overrides: Sequence[str]) -> Extension:
    """Return the space of a sweep with some values changed; nothing is written or started.

    Args:
        directory: the sweep's directory.
        overrides: `key=value` strings; keys of `CHANGEABLE` only.

    Raises:
        InputError: the directory holds no sweep, or a key is not to be changed; one line each.
    """
    root = Path(directory)
    before = read_space(root)
    if not overrides:
        raise InputError(f"nothing to change: give key=value, of {', '.join(_keys(before))}")
    refused = [told for text in overrides if (told := _refusal(text, before)) is not None]
    if refused:
        raise InputError("\n".join(refused))
    values, origins = merge([before.to_dict()], overrides)
    space = build(SpaceConfig, values, origins)
    return Extension(root, space, tuple(difference(before.to_dict(), space.to_dict())))


def _keys(config: SpaceConfig) -> list[str]:
    """Return the keys that may be changed."""
    found = [key for key in CHANGEABLE if not (key == "concurrent" and config.deterministic)]
    values = dict(leaves(config.to_dict()))
    return [name for key in found for name in values if name == key or name.startswith(f"{key}.")]


def _refusal(text: str, config: SpaceConfig) -> str | None:
    key = text.partition("=")[0].strip()
    if key in CHANGEABLE or any(key.startswith(f"{one}.") for one in CHANGEABLE):
        if key == "concurrent" and config.deterministic:
            return "concurrent: a deterministic sweep knows its trials by it; begin another sweep"
        return None
    if key.split(".")[0] in SpaceConfig.model_fields:
        return (
            f"{key}: cannot change within a sweep, whose trials would no longer be alike; begin another "
            f"(raysl sweep --name), or change one of {', '.join(_keys(config))}"
        )
    return f"{key}: cannot change within a sweep; {nearest(key, _keys(config))}"
