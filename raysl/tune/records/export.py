"""A sweep's trials and their curves as one table: a row for each epoch of each trial.

Columns: `trial`, `kind`, `of`, `seed`, `fidelity`, `state`, `cause`, `epoch`, `seconds` (since the epoch
before it, or since its attempt was launched), the searched and tied keys of the run's config by their dotted
names, searched names that are no keys (as `search.NAME` where one of these columns has that name), and every
metric by its tag, which holds a slash. A trial that ended before its first epoch has one row, in which
`epoch`, `seconds` and the metrics are missing.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from raysl.config import leaves
from raysl.errors import InputError, not_written
from raysl.tune.records.entry import Entry, Report
from raysl.tune.records.record import Record
from raysl.tune.spaces.resolve import Space

FACTS = ("trial", "kind", "of", "seed", "fidelity", "state", "cause", "epoch", "seconds")
"""Columns that are neither parameters nor metrics."""
_PREFIX = "search."


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


def column_of(key: str) -> str:
    """Return the column of a searched key; its own name, unless that is one of `FACTS`."""
    return f"{_PREFIX}{key}" if key in FACTS else key


def key_of(column: str) -> str:
    """Return the searched key that a column is of."""
    key = column.removeprefix(_PREFIX)
    return key if key in FACTS else column


def check_suffix(path: Path) -> None:
    """Refuse a file that no table can be written to.

    Raises:
        InputError: its suffix is none of `SUFFIXES`, or it is a folder.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, CSV or JSON (a list of objects), by the file's suffix; whole or not at all.

    JSON has no NaN and no infinity: there, they are null.

    Raises:
        InputError: the suffix is none of these, or the path is a folder.
        RayslError: it cannot be written.
    """
    check_suffix(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _WRITERS[path.suffix](table, aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise not_written(path, error) from None


def _write_parquet(table: pa.Table, path: Path) -> None:
    pyarrow.parquet.write_table(table, path, compression="zstd")


def _write_csv(table: pa.Table, path: Path) -> None:
    pyarrow.csv.write_csv(table, path)


def _write_json(table: pa.Table, path: Path) -> None:
    rows = [{name: _finite(value) for name, value in row.items()} for row in table.to_pylist()]
    path.write_text(json.dumps(rows, indent=1, allow_nan=False), encoding="utf-8")


_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".parquet": _write_parquet, ".csv": _write_csv, ".json": _write_json,
}  # fmt: skip
SUFFIXES = tuple(_WRITERS)
"""Forms of the file."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(space: Space, entry: Entry) -> list[dict[str, Any]]:
    config = dict(leaves(space.trial_config(entry).to_dict()))
    params = entry.params | {key: config[key] for key in space.config.tied}
    facts: dict[str, Any] = {
        "trial": entry.number, "kind": entry.role.kind, "of": entry.role.of, "seed": entry.role.seed,
        "fidelity": entry.role.fidelity, "state": entry.state, "cause": entry.cause,
    }  # fmt: skip
    named = {column_of(key): value for key, value in params.items()}
    if not entry.reports and entry.state != "running":
        return [facts | {"epoch": None, "seconds": None} | named]
    before = [None, *entry.reports]
    return [
        facts | {"epoch": report.epoch, "seconds": _seconds(entry, earlier, report)} | named | report.metrics
        for earlier, report in zip(before, entry.reports, strict=False)
    ]


def _seconds(entry: Entry, before: Report | None, report: Report) -> float:
    """Return how long an epoch took.

    It counts for the attempt in which it was recorded, which may be an earlier one than has reported it: a
    ledger that lacks the last epoch of an attempt hears of it from the next.
    """
    launches = sorted(entry.launches)
    begun = launches[max(0, bisect_right(launches, report.time) - 1)]
    return max(0.0, report.time - (begun if before is None else max(begun, before.time)))


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) > 1 or kinds & {list, tuple}:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values)
