"""A sweep's directory: which space it holds, and what of it may change from one start to the next."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from raysl.config import build, difference, yaml
from raysl.errors import InputError
from raysl.train.atomic import write_atomically
from raysl.train.method_copy import about_method, keep_source
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig

CHANGEABLE = (
    "attempts", "budget", "concurrent", "description", "noise.best_seeds", "prices", "trials", "warm_spare",
)  # fmt: skip
"""What may change from one start to the next: none of it changes a trial."""


def changeable(config: SpaceConfig) -> dict[str, Any]:
    """Return the values that are in force for one start, by key of the space."""
    values = config.to_dict()
    found: dict[str, Any] = {key: values[key] for key in CHANGEABLE if "." not in key}
    return found | {"noise": values["noise"]}


def read_space(root: Path) -> SpaceConfig:
    """Return the space that a sweep's directory holds.

    Raises:
        InputError: it holds no sweep.
    """
    return build(SpaceConfig, _facts(root)["space"])


def study_name(root: Path) -> str:
    """Return the name of a sweep's study.

    Raises:
        InputError: the directory holds no sweep.
    """
    return str(_facts(root)["study"])


def check_directory(root: Path, space: Space) -> None:
    """Refuse a directory that holds something else, before anything is written into it.

    Raises:
        InputError: it holds a sweep of another space (the message lists the differences), or no sweep.
    """
    file = root / "space.yaml"
    if not file.exists():
        others = [item.name for item in root.iterdir() if item.name != "lease.json"] if root.is_dir() else []
        if others:
            raise InputError(f"{root}: not empty and not a sweep's directory; choose another --name")
        return
    before = _facts(root)
    old, new = build(SpaceConfig, before["space"]).to_dict(), space.config.to_dict()
    for values in (old, new):
        for key in CHANGEABLE:
            if key == "concurrent" and space.config.deterministic:
                continue
            holder, _, name = key.rpartition(".")
            (values[holder] if holder else values).pop(name)
    recipe = difference(before["base"], space.base.identity())
    changed = difference(old, new) + [f"(recipe) {line}" for line in recipe]
    if not changed:
        # Those of a recipe are part of its identity; these are the choices of a searched method.name too.
        changed = [
            f"source_sha256 of {line}" for line in difference(before.get("own_methods", {}), _digests(space))
        ]
    if changed:
        raise InputError(
            f"{root}: holds a sweep of another space ({'; '.join(changed)}); "
            "choose another --name, or give the same space to continue it" + about_method(changed, root)
        )


def claim_directory(root: Path, space: Space) -> str:
    """Keep the space, and what its recipes said, with the sweep; return the name of its study.

    The name is no other sweep's, because a database may hold the studies of many.
    """
    file = root / "space.yaml"
    study = study_name(root) if file.exists() else f"{space.config.name}-{uuid.uuid4().hex}"
    facts = {"study": study, "space": space.config.to_dict(), "base": space.base.identity()}
    write_atomically(file, yaml.dump({**facts, "own_methods": _digests(space)}))
    for source in space.own_methods.values():
        keep_source(root, source)
    return study


def _facts(root: Path) -> dict[str, Any]:
    file = root / "space.yaml"
    if not file.is_file():
        what = "has no space.yaml" if root.is_dir() else "no such directory"
        raise InputError(
            f"{root}: {what}; expected the directory of a sweep (raysl ls shows the ones there are)"
        )
    facts = yaml.parse(file.read_text(encoding="utf-8"), str(file))
    if not isinstance(facts, dict) or not {"study", "space", "base"} <= set(facts):
        raise InputError(
            f"{file}: not what a sweep keeps of its space (study, space, base); expected the directory of a "
            "sweep (raysl ls shows the ones there are)"
        )
    return facts


def _digests(space: Space) -> dict[str, str]:
    return {reference: source.sha256 for reference, source in space.own_methods.items()}
