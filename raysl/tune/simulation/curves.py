"""A table of recorded trials that stands in for training: what was asked for is looked up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from raysl.errors import InputError
from raysl.tune.records.export import FACTS, key_of

_LOG_RATIO = 20.0
"""Positive columns whose values differ by more than this factor are compared by their logarithms."""


@dataclass(frozen=True)
class Recorded:
    """One recorded trial.

    Args:
        trial: its number in the table.
        params: its parameters.
        metrics: of each epoch, from the first on.
        seconds: of each epoch.
    """

    trial: int
    params: dict[str, Any]
    metrics: list[dict[str, float]]
    seconds: list[float]


class Curves:
    """Recorded trials, looked up by their parameters: the nearest one answers.

    Numbers are compared on the scale of the table (positive ones that span more than a factor of 20 by their
    logarithms), all else by how it is written; a parameter that either lacks counts as different.

    Args:
        trials: recorded trials.

    Raises:
        InputError: there are none.
    """

    def __init__(self, trials: Sequence[Recorded]) -> None:
        if not trials:
            raise InputError("the table of curves holds no trial that ran to its end")
        self.trials = list(trials)
        self.keys = sorted({key for trial in trials for key in trial.params})
        self._scales = {key: _Scale([trial.params.get(key) for trial in trials]) for key in self.keys}

    @property
    def epochs(self) -> int:
        """Epochs that every trial has."""
        return min(len(trial.metrics) for trial in self.trials)

    def nearest(self, params: Mapping[str, Any]) -> tuple[Recorded, float]:
        """Return the recorded trial that is nearest to some parameters, and how far it is.

        The distance is Euclidean, where 1 is the whole range of a parameter; of equals, the first is taken.
        """
        distances = self.distances(params)
        row = int(np.argmin(distances))
        return self.trials[row], float(distances[row])

    def distances(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return how far some parameters are from each recorded trial."""
        squares: NDArray[np.float64] = np.zeros(len(self.trials))
        for key, scale in self._scales.items():
            squares += scale.distances(params.get(key)) ** 2
        return np.sqrt(squares)


class _Scale:
    def __init__(self, values: Sequence[Any]) -> None:
        numbers = [value for value in values if _is_number(value)]
        self._values = values
        self._log = bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > _LOG_RATIO
        placed = [self._place(value) for value in numbers]
        self._range = (max(placed) - min(placed)) or 1.0 if placed else 1.0

    def distances(self, value: Any) -> NDArray[np.float64]:
        return np.array([self._distance(value, other) for other in self._values])

    def _distance(self, left: Any, right: Any) -> float:
        if _is_number(left) and _is_number(right):
            return abs(self._place(left) - self._place(right)) / self._range
        # Lists, and choices of several types, are words in a table.
        return 0.0 if str(left) == str(right) else 1.0

    def _place(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self._log else float(value)


def read_curves(path: Path) -> Curves:
    """Read a table that `raysl sweep export` wrote, of one that ran all its trials to their end.

    Only complete trials of their own (no further seeds, no promotions) are taken.

    Raises:
        InputError: the file cannot be read, is no such table, or holds no complete trial.
    """
    try:
        match path.suffix:
            case ".parquet":
                table = pyarrow.parquet.read_table(path)
            case ".csv":
                # A word that is missing is written as nothing, like one of no letters.
                table = pyarrow.csv.read_csv(
                    path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)
                )
            case _:
                raise InputError(f"{path}: expected a table that ends in .parquet or .csv")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    missing = [name for name in FACTS if name not in table.column_names]
    if missing:
        raise InputError(
            f"{path}: has no column {', '.join(missing)}; expected a table of `raysl sweep export`"
        )
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["state"] == "complete" and row["kind"] == "search":
            rows.setdefault(row["trial"], []).append(row)
    return Curves([_recorded(number, found) for number, found in rows.items()])


def _recorded(number: int, rows: list[dict[str, Any]]) -> Recorded:
    rows = sorted(rows, key=lambda row: int(row["epoch"]))
    names = [name for name in rows[0] if name not in FACTS]
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        raise InputError(f"trial {number} of the table has not each epoch once; expected one sweep's table")
    params = {key_of(n): rows[0][n] for n in names if "/" not in n and rows[0][n] is not None}
    metrics = [{n: float(row[n]) for n in names if "/" in n and row[n] is not None} for row in rows]
    return Recorded(number, params, metrics, [float(row["seconds"]) for row in rows])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
