"""Makes the committed subset of a directory of reference vectors: `python -m tests.golden.subset SOURCE`.

Every kind of case is in it with its smallest case; then the kinds take turns, small cases first, until the
subset is as large as it may be. To take little room, inputs that nothing of ours reads and the authors'
float32 results are left out, what is compared is rounded by at most a tenth of what its case allows, and
whatever float32 can hold is stored as such.
"""

from __future__ import annotations

import io
import json
import sys
from collections import UserDict, defaultdict
from collections.abc import Container
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from raysl.errors import InputError
from raysl.verify.compare import inputs_of
from raysl.verify.reference import Case, Values, computes, kind_of, load_cases
from tests.golden.test_golden import COMMITTED, MOST_BYTES

BUDGET = int(0.995 * MOST_BYTES)
"""For the cases; what is left is for what the archives and the index have beside them."""


class _Noting(UserDict[str, Tensor]):
    """Inputs that remember which of them were read, in whatever way."""

    def __init__(self, inputs: Values) -> None:
        super().__init__(inputs)
        self.read: set[str] = set()

    def __getitem__(self, role: str) -> Tensor:
        self.read.add(role)
        return super().__getitem__(role)


def _trimmed(entry: dict[str, Any], case: Case, kind: str) -> dict[str, Any]:
    """Return a case's entry in the index without what is never read."""
    inputs = _Noting(inputs_of(case, torch.float64))
    computes()[kind](case, cast(Values, inputs))
    wanted = {name.removeprefix("grad_") for name in case.tensors("gradient")} | inputs.read
    arrays = {
        role: array
        for role, array in entry["arrays"].items()
        if (role in wanted if array["kind"] == "input" else not role.endswith("_f32"))
    }
    return entry | {"arrays": arrays}


def _rounded(x: np.ndarray, array: dict[str, Any], tolerance: dict[str, Any]) -> np.ndarray:
    """Round a result by at most a tenth of what its case allows."""
    if x.dtype != np.float64 or not x.ndim or tolerance.get("exact") or not np.isfinite(x).all():
        return x
    if array["kind"] == "gradient":
        largest = np.abs(x).max()
        allowed = tolerance.get("float64_grad_rel_to_max", 1e-7) * (largest or 1.0)
        step = np.full_like(x, allowed)
    else:
        step = tolerance.get("float64_value_rtol", 1e-9) * np.abs(x)
    step = np.exp2(np.floor(np.log2(np.where(step > 0, step, 1.0) / 5)))
    return np.asarray(np.round(x / step) * step)


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _short(x: np.ndarray) -> np.ndarray:
    """Return a float64 array as float32 where that holds the same numbers."""
    short = x.astype(np.float32) if x.dtype == np.float64 else x
    return short if np.array_equal(short, x) else x


@dataclass(frozen=True)
class _Candidate:
    """A case that may be taken: its entry in the index and its arrays by their keys."""

    kind: str
    entry: dict[str, Any]
    arrays: dict[str, Any]

    @property
    def undefined(self) -> bool:
        """Whether an array of it is not finite."""
        return not all(np.isfinite(x).all() for x in self.arrays.values())

    def size(self, there: Container[str] = ()) -> int:
        """Return the bytes it takes where some keys are there already."""
        archive = io.BytesIO()
        np.savez_compressed(archive, **{key: x for key, x in self.arrays.items() if key not in there})
        return len(archive.getvalue()) + len(_text(self.entry))


def _candidates(source: Path, entries: dict[str, dict[str, Any]]) -> list[_Candidate]:
    """Return every case of a directory.

    Raises:
        InputError: a case has no computation of ours.
    """
    given = {
        (entry["file"], array["key"])
        for entry in entries.values()
        for array in entry["arrays"].values()
        if array["kind"] == "input"
    }
    found = []
    for case in load_cases(source):
        kind = kind_of(case)
        if kind is None:
            raise InputError(f"{case.id}: nothing of ours computes this case; add it to raysl/verify/cases")
        entry, arrays = _trimmed(entries[case.id], case, kind), {}
        with np.load(source / case.file) as members:
            for array in entry["arrays"].values():
                key, x = array["key"], members[array["key"]]
                arrays[key] = _short(x if (case.file, key) in given else _rounded(x, array, case.tolerance))
        found.append(_Candidate(kind, entry, arrays))
    return found


def _in_turns(candidates: list[_Candidate]) -> list[_Candidate]:
    """Return all: the smallest of each kind first, then the second of each; those that are NaN come last."""
    by_kind: dict[str, list[_Candidate]] = defaultdict(list)
    for one in sorted(candidates, key=lambda one: (one.undefined, one.size())):
        by_kind[one.kind].append(one)
    return [one for turn in zip_longest(*by_kind.values()) for one in turn if one is not None]


def make(source: Path, target: Path, budget: int) -> str:
    """Write the subset of `source` into `target` and return what it is, in a line.

    Raises:
        InputError: a case has no computation of ours, or the smallest cases alone are over the budget.
    """
    index = json.loads((source / "INDEX.json").read_text(encoding="utf-8"))
    entries = {entry["id"]: entry for entry in index["cases"]}
    candidates = _candidates(source, entries)
    kinds = {one.kind for one in candidates}
    archives: dict[str, dict[str, Any]] = defaultdict(dict)
    chosen: set[str] = set()
    for place, one in enumerate(_in_turns(candidates)):
        archive = archives[one.entry["file"]]
        size = one.size(archive)
        if size <= budget:
            budget -= size
            archive |= one.arrays
            chosen.add(one.entry["id"])
            entries[one.entry["id"]] = one.entry
        elif place < len(kinds):
            raise InputError(
                f"{one.entry['id']}: the smallest case of its kind has {size - budget} bytes too many"
            )
    for old in target.glob("*.npz"):
        old.unlink()
    for name, arrays in archives.items():
        if arrays:
            np.savez_compressed(target / name, **arrays)
    cases = [entry for entry in entries.values() if entry["id"] in chosen]
    text = _text(index | {"cases": cases})
    (target / "INDEX.json").write_text(text.replace('{"id"', '\n{"id"') + "\n", encoding="utf-8")
    total = sum(file.stat().st_size for file in target.iterdir() if file.suffix in {".npz", ".json"})
    return f"{len(cases)} of {len(entries)} cases, {len(kinds)} kinds, {total} bytes in {target}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.golden.subset SOURCE")
    torch.set_num_threads(1)
    print(make(Path(sys.argv[1]), COMMITTED, BUDGET))
