"""Reference vectors: INDEX.json, which describes cases, and the .npz files it names.

Each case was computed by a paper's own authors' code. What of ours computes it is looked up in
`raysl/verify/cases/`, one file per family, each with a `COMPUTE` table; its `COVERS` says which kinds
belong to which method.
"""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysl.errors import InputError
from raysl.verify import cases


@dataclass(frozen=True)
class Case:
    """One case of an index.

    Args:
        directory: where its index is.
        id: `file stem/name`.
        file: the .npz with its arrays.
        hyperparameters: what the authors' code was called with.
        arrays: by role: the member's key, its kind (input, output, gradient, ...) and shape.
        tolerance: relative and absolute errors allowed, by name.
    """

    directory: Path
    id: str
    file: str
    hyperparameters: dict[str, Any]
    arrays: dict[str, dict[str, Any]]
    tolerance: dict[str, Any]

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Return the arrays of a kind (input, output, gradient) by role, without the float32 repetitions."""
        with np.load(self.directory / self.file) as members:
            return {
                role: torch.from_numpy(np.asarray(members[array["key"]]))
                for role, array in self.arrays.items()
                if array["kind"] == kind and not role.endswith("_f32")
            }


Values = dict[str, Tensor]
Compute = Callable[[Case, Values], Values]
"""Takes a case and its inputs by role (floating ones require a gradient and set the precision); returns what
ours gives for each output role."""


def load_cases(directory: Path) -> list[Case]:
    """Return every case of a directory's index.

    Raises:
        InputError: the directory has no index, or one that cannot be read.
    """
    try:
        index = json.loads((directory / "INDEX.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{directory}: holds no reference vectors ({error}); give the folder of an INDEX.json"
        ) from None
    return [
        Case(
            directory,
            case["id"],
            case["file"],
            case["hyperparameters"],
            case["arrays"],
            case["tolerance"],
        )
        for case in index["cases"]
    ]


@functools.cache
def computes() -> dict[str, Compute]:
    """Return every entry of every `COMPUTE` table, by the beginning of the case ids it is for."""
    found: dict[str, Compute] = {}
    for module in _families():
        found |= module.COMPUTE
    return found


@functools.cache
def covers() -> dict[str, set[str]]:
    """Return the kinds of case that belong to each method, of every `COVERS` table."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in _families():
        # A file of what all methods share, such as optimizers, need not have one.
        for method, kinds in getattr(module, "COVERS", {}).items():
            found[method] |= set(kinds)
    return dict(found)


def _families() -> list[ModuleType]:
    return [
        importlib.import_module(f"{cases.__name__}.{module.name}")
        for module in pkgutil.iter_modules(cases.__path__)
    ]


def kind_of(case: Case) -> str | None:
    """Return the kind of a case, the longest beginning of its id that is in a table; None when none is."""
    return max((start for start in computes() if case.id.startswith(start)), key=len, default=None)


def compute_for(case: Case) -> Compute | None:
    """Return what computes a case; None when nothing does."""
    kind = kind_of(case)
    return None if kind is None else computes()[kind]


def covered_by(method: str, among: list[Case]) -> list[Case]:
    """Return the cases that belong to a method; a user's own method has none."""
    kinds = covers().get(method, set())
    return [case for case in among if kind_of(case) in kinds]
