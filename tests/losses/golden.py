"""Reads golden vectors: INDEX.json, which describes cases, and the .npz files it names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

COMMITTED = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Case:
    """One case of an index."""

    directory: Path
    name: str
    file: str
    hyperparameters: dict[str, Any]
    arrays: dict[str, dict[str, Any]]
    tolerance: dict[str, float]

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Return the arrays of a kind: input, output or gradient."""
        with np.load(self.directory / self.file) as members:
            return {
                role: torch.from_numpy(np.asarray(members[array["key"]]))
                for role, array in self.arrays.items()
                if array["kind"] == kind and not role.endswith("_f32")
            }


def load_cases(directory: Path) -> list[Case]:
    """Return every case of a directory's index."""
    index = json.loads((directory / "INDEX.json").read_text(encoding="utf-8"))
    return [
        Case(
            directory,
            case["id"].partition("/")[2],
            case["file"],
            case["hyperparameters"],
            case["arrays"],
            case["tolerance"],
        )
        for case in index["cases"]
    ]
