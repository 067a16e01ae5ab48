"""The file of a scaled config: where it comes from and what was changed, as comments above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysl import __version__
from raysl.config import RECIPES, yaml
from raysl.errors import InputError
from raysl.methods.base import Change
from raysl.train.atomic import write_atomically
from raysl.train.config import RunConfig
from raysl.train.method_copy import keep_method
from raysl.train.scale import KEPT


@dataclass(frozen=True)
class Scaled:
    """A config that was scaled and written.

    Args:
        path: its file.
        config: the big run.
        changes: what became of every value.
        method_copy: the copy of the user's own method beside it, if it has one.
    """

    path: Path
    config: RunConfig
    changes: tuple[Change, ...]
    method_copy: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for `--json`."""
        return {
            "path": str(self.path),
            "changes": [asdict(change) for change in self.changes],
            "config": self.config.to_dict(),
        }

    def describe(self) -> str:
        """Return a line for each value, and what to do next, for people."""
        counts = Counter(change.label for change in self.changes)
        lines = [_line(change) for change in self.changes if change.why != KEPT]
        for section in ("method", "optimizer", "schedule"):
            kept = [change for change in self.changes if change.why == KEPT and _section(change) == section]
            told = ", ".join(f"{change.key.partition('.')[2]} {_shown(change.old)}" for change in kept)
            lines += [f"transferred  {section}: {told}  ({KEPT})"] if kept else []
        lines.append(", ".join(f"{counts[label]} {label}" for label in ("transferred", "rescaled", "unsafe")))
        lines.append(f"wrote {self.path}")
        if self.method_copy is not None:
            lines.append(f"wrote {self.method_copy}, which goes with it")
        return "\n".join([*lines, f"next: raysl pretrain {self.path}"])


def write_scaled(
    path: Path, config: RunConfig, changes: Sequence[Change], given: str | Path | Mapping[str, Any]
) -> Scaled:
    """Write the config of a big run with its provenance and what was changed above it.

    Args:
        path: where to; must not be there yet.
        config: the big run.
        changes: what became of each value.
        given: the config it was scaled from; the comments at its top are kept.

    Raises:
        InputError: the file is there, or its folder is not.
    """
    if path.exists():
        raise InputError(f"{path}: there already; choose another --to, or remove it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it, or choose another --to")
    told = [] if isinstance(given, Mapping) else _comments(RECIPES.read(given)[1])
    origin = "given values" if isinstance(given, Mapping) else str(given)
    noted = [_line(change) for change in changes if change.label == "unsafe" or change.old != change.new]
    lines = [
        *told,
        f"Scaled from {origin} by raysl {__version__} scale; all not listed stayed as it was:",
        *noted,
    ]
    text = "".join(f"# {line}\n" for line in lines) + yaml.dump(config.to_dict())
    copy = keep_method(path.parent, config)
    write_atomically(path, text)
    return Scaled(path, config, tuple(changes), copy)


def _comments(text: str) -> list[str]:
    """Return the comment lines at the top of a YAML file, without their marks."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def _line(change: Change) -> str:
    old, new = _shown(change.old), _shown(change.new)
    values = old if change.old == change.new else f"{old} -> {new}"
    return f"{change.label:<11}  {change.key}: {values}  ({change.why})"


def _section(change: Change) -> str:
    return change.key.partition(".")[0]


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.7g}" if isinstance(value, float) else str(value)
