"""A sweep's record as a table: what its columns and rows are, in each form of file, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysl.errors import InputError, RayslError
from raysl.tune.records.entry import Entry, Report, Role, State
from raysl.tune.records.export import FACTS, SUFFIXES, export_table, write_table
from raysl.tune.records.record import Record
from raysl.tune.simulation.curves import read_curves
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space

KNN, LOSS, LR = "eval/knn_top1", "train/loss", "optimizer.lr"
# A name of one's own that the table has for another column.
OWN: dict[str, Any] = {
    "search": {"seed": {"type": "float", "low": 0.1, "high": 0.9}},
    "tied": {"views.crop.scale": "[seed, 1.0]"},
}
SCALE = "views.crop.scale"


def entry(number: int, state: State, metrics: list[dict[str, float]], **facts: Any) -> Entry:
    """Return a trial whose epochs take two seconds each, from second 100 on."""
    made = Entry(number, {LR: 0.01, "method.temperature": 0.5}, {}, state=state, launches=[100.0])
    made.reports = [Report(n, None, 100.0 + 2.0 * n, 1, one) for n, one in enumerate(metrics, start=1)]
    made.cause = "" if state == "running" else facts.pop("cause", state)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def record(*trials: Entry, **changes: Any) -> Record:
    return Record(Path("runs/x"), Space(space(**changes)), trials, [])


def rows(*trials: Entry, **changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = export_table(record(*trials, **changes)).to_pylist()
    return found


@pytest.fixture
def mixed() -> Record:
    """Trials of every state, a further seed, a NaN."""
    return record(
        entry(0, "complete", [{LOSS: 2.0}, {LOSS: 1.0, KNN: 90.0}]),
        entry(1, "complete", [{LOSS: 2.0}, {LOSS: 1.5, KNN: 91.0}], role=Role("repeat", 0, 1)),
        entry(2, "pruned", [{LOSS: 3.0}]),
        entry(3, "failed", [{LOSS: math.nan}], cause="nan"),
        entry(4, "failed", [], cause="oom"),
        entry(5, "running", [{LOSS: 2.5}]),
        entry(6, "running", []),
    )


def test_there_is_a_row_for_each_epoch_and_for_each_trial_that_ended_without(mixed: Record) -> None:
    table = export_table(mixed)
    assert table.column_names == [*FACTS, LR, "method.temperature", LOSS, KNN]
    found = table.to_pylist()
    assert [(row["trial"], row["state"], row["cause"], row["epoch"]) for row in found] == [
        (0, "complete", "complete", 1), (0, "complete", "complete", 2),
        (1, "complete", "complete", 1), (1, "complete", "complete", 2),
        (2, "pruned", "pruned", 1), (3, "failed", "nan", 1), (4, "failed", "oom", None),
        (5, "running", "", 1),
    ]  # fmt: skip
    assert [(row["kind"], row["of"], row["seed"]) for row in found[1:3]] == [
        ("search", None, 0), ("repeat", 0, 1),
    ]  # fmt: skip
    assert [row[KNN] for row in found[:2]] == [None, 90.0]
    assert math.isnan(found[5][LOSS])
    assert (found[6][LR], found[6][LOSS], found[6]["seconds"]) == (0.01, None, None)


def test_an_epochs_seconds_are_those_of_the_attempt_that_recorded_it() -> None:
    made = entry(0, "complete", [{LOSS: 1.0}] * 4)
    # The first attempt recorded epoch 2 and died before it was heard of; the second passed it on.
    made.launches = [100.0, 150.0]
    times, fences = (102.0, 105.0, 153.0, 155.0), (1, 2, 2, 2)
    made.reports = [Report(n, None, t, f, {}) for n, (t, f) in enumerate(zip(times, fences, strict=True), 1)]
    assert [row["seconds"] for row in rows(made)] == [2.0, 3.0, 3.0, 2.0]


def test_tied_keys_names_of_ones_own_and_values_of_several_types_are_columns() -> None:
    made = entry(0, "complete", [{LOSS: 1.0}])
    made.params = {"seed": 0.3, "method.temperature": 0.5}
    found = rows(made, **OWN)[0]
    # A name that is one of the table's own columns takes nothing from it.
    assert (found["seed"], found["search.seed"], found[SCALE]) == (0, 0.3, "[0.3, 1.0]")
    mixed = [entry(n, "complete", [{LOSS: 1.0}]) for n in range(3)]
    mixed[0].params, mixed[1].params = {"method.temperature": 1}, {"method.temperature": 0.5}
    mixed[2].params = {}  # as where a condition does not hold
    assert [row["method.temperature"] for row in rows(*mixed)] == [1.0, 0.5, None]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_form_holds_the_same_rows(mixed: Record, suffix: str, tmp_path: Path) -> None:
    table, path = export_table(mixed), tmp_path / "new" / f"table{suffix}"
    for _ in range(2):  # what is there is replaced
        write_table(table, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == ".json":
        # Read strictly: NaN is no JSON.
        text = path.read_text(encoding="utf-8")
        found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert found[5][LOSS] is None
        assert [row["trial"] for row in found] == table["trial"].to_pylist()
        return
    if suffix == ".parquet":
        assert pq.read_table(path).schema.equals(table.schema)
    curves = read_curves(path)
    # Of trials of their own that came to their end.
    assert [trial.trial for trial in curves.trials] == [0]
    first = curves.trials[0]
    assert first.params == {LR: 0.01, "method.temperature": 0.5}
    assert first.metrics == [{LOSS: 2.0}, {LOSS: 1.0, KNN: 90.0}]
    assert first.seconds == [2.0, 2.0]


def test_what_a_table_calls_otherwise_is_read_back_by_its_name(tmp_path: Path) -> None:
    made = [entry(n, "complete", [{KNN: 1.0}]) for n in range(2)]
    made[0].params = {"seed": 0.3, LR: 0.1, "optimizer.name": "sgd"}
    made[1].params = {"seed": 0.4, LR: 0.1}
    for suffix in (".csv", ".parquet"):
        write_table(export_table(record(*made, **OWN)), tmp_path / f"t{suffix}")
        found = read_curves(tmp_path / f"t{suffix}").trials
        tied = [{SCALE: "[0.3, 1.0]"}, {SCALE: "[0.4, 1.0]"}]
        assert [trial.params for trial in found] == [{**made[n].params, **tied[n]} for n in range(2)]


def test_two_sweeps_in_one_table_are_no_curves(mixed: Record, tmp_path: Path) -> None:
    import pyarrow as pa

    table = export_table(mixed)
    write_table(pa.concat_tables([table, table]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="trial 0 of the table has not each epoch once"):
        read_curves(tmp_path / "t.parquet")


@pytest.mark.parametrize("trials", [[], [entry(0, "running", [])]])
def test_nothing_on_record_is_nothing_to_export(trials: list[Entry]) -> None:
    with pytest.raises(InputError, match="no trial has reported an epoch yet"):
        export_table(record(*trials))


def test_where_nothing_can_be_written_is_said(mixed: Record, tmp_path: Path) -> None:
    table = export_table(mixed)
    with pytest.raises(InputError, match=r"expected a name that ends in \.parquet, \.csv, \.json"):
        write_table(table, tmp_path / "table.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write_table(table, tmp_path / "folder.csv")
    (tmp_path / "file").touch()
    with pytest.raises(RayslError, match="not written"):
        write_table(table, tmp_path / "file" / "table.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]
