"""A sweep's trials and their curves as one table: a row for each epoch of each trial.

Columns: `trial`, `kind`, `of`, `seed`, `fidelity`, `state`, `cause`, `epoch`, `seconds` (since the epoch
before it, or since its attempt was launched), the searched and tied keys of the run's config by their dotted
names, searched names that are no keys, and every metric by its tag, which holds a slash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from raysl.config import leaves
from raysl.errors import InputError
from raysl.tune.records.entry import Entry, Report
from raysl.tune.records.record import Record
from raysl.tune.spaces.resolve import Space

FACTS = ("trial", "kind", "of", "seed", "fidelity", "state", "cause", "epoch", "seconds")
"""Columns that are neither parameters nor metrics."""
SUFFIXES = (".parquet", ".csv", ".json")
"""Forms of the file."""


def export_table(record: Record) -> pa.Table:
    """Return a sweep's record as a table.

    Raises:
        InputError: nothing is on record yet.
    """
    rows = [row for entry in record.trials for row in _rows(record.space, entry)]
    if not rows:
        raise InputError(f"{record.directory}: no trial has reported an epoch yet; nothing to export")
    # In the order in which they are met, because trials differ in their conditional keys and metrics.
    names = list(dict.fromkeys(name for row in rows for name in row))
    order = [*FACTS, *(n for n in names if n not in FACTS and "/" not in n), *(n for n in names if "/" in n)]
    return pa.table({name: _column([row.get(name) for row in rows]) for name in order})


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, CSV or JSON (a list of objects), by the file's suffix.

    Raises:
        InputError: the suffix is none of these.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pyarrow.parquet.write_table(table, path, compression="zstd")
        case ".csv":
            pyarrow.csv.write_csv(table, path)
        case ".json":
            path.write_text(json.dumps(table.to_pylist(), indent=1), encoding="utf-8")
        case _:
            raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")


def _rows(space: Space, entry: Entry) -> list[dict[str, Any]]:
    config = dict(leaves(space.trial_config(entry).to_dict()))
    tied = {key: config[key] for key in space.config.tied}
    facts: dict[str, Any] = {
        "trial": entry.number, "kind": entry.role.kind, "of": entry.role.of, "seed": entry.role.seed,
        "fidelity": entry.role.fidelity, "state": entry.state, "cause": entry.cause,
    }  # fmt: skip
    before: Report | None = None
    rows = []
    for report in entry.reports:
        goes_on = before is not None and before.fence == report.fence
        begun = before.time if before is not None and goes_on else entry.launches[report.fence - 1]
        times = {"epoch": report.epoch, "seconds": report.time - begun}
        rows.append(facts | times | entry.params | tied | report.metrics)
        before = report
    return rows


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) > 1 or kinds & {list, tuple}:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values)
