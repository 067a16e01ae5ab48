"""How a sweep stands, told from made-up records; and whom a request to stop is for."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from raysl.config import yaml
from raysl.errors import RayslError
from raysl.tune.control import StopFile, stop, stop_path
from raysl.tune.records.entry import Entry, Report, Role, Session, State
from raysl.tune.records.lease import Lease, read_holder
from raysl.tune.records.record import Record
from raysl.tune.spaces.resolve import Space
from raysl.tune.status import Status, status_of
from tests.tune.conftest import space
from tests.tune.recorded import built, simulated

KNN = "eval/knn_top1"


def entry(number: int, state: State, epochs: int, value: float = 50.0, role: Role | None = None) -> Entry:
    """Return a trial whose epochs take two seconds each."""
    made = Entry(number, {"optimizer.lr": 0.1}, {}, role or Role(), state, launches=[100.0])
    made.reports = [
        Report(epoch, value + epoch, 100.0 + 2.0 * epoch, 1, {}) for epoch in range(1, epochs + 1)
    ]
    if state != "running":
        made.ended, made.cause = 100.0 + 2.0 * epochs, state
    if state == "complete":
        made.values = (value,)
    return made


def stand(record_of: list[Entry], *, alive: bool = True, **changes: Any) -> Status:
    built = Space(space(**{"trials": 10, "epochs": 10} | changes))
    record = Record(Path("runs/x"), built, record_of, [Session(100.0, 2, 1.0, 0.0)])
    return status_of(record, 140.0 if alive else None, "process 1 on here" if alive else "", 140.0)


def test_a_running_sweep() -> None:
    trials = [
        entry(0, "complete", 10, 60.0), entry(1, "pruned", 2), entry(2, "failed", 3),
        entry(3, "running", 4), entry(4, "running", 0),
    ]  # fmt: skip
    found = stand(trials, budget={"epochs": 190})
    assert (found.state, found.searched, found.wanted) == ("running", 5, 10)
    assert found.states == {"running": 2, "complete": 1, "pruned": 1, "failed": 1}
    assert (found.chosen, found.value, found.seeds) == (0, 60.0, 1)
    going, new = found.running
    assert (going.epoch, going.epochs, going.epoch_s, going.value, going.silent_s) == (4, 10, 2.0, 54.0, 32.0)
    assert (new.epoch, new.epoch_s, new.value) == (0, None, None)
    assert found.budget == {"epochs": pytest.approx(19 / 190)}
    # Sixteen epochs of the running ones, and five trials of 10 epochs, or of the mean of 10, 2 and 3.
    assert (found.left.trials, found.left.epochs_worst, found.left.epochs) == (5, 16 + 50, 16 + 25)
    assert found.left.seconds == pytest.approx(41 * 2.0 / 2)
    text = found.describe()
    assert "trial 3: epoch 4 of 10, 2 s each, eval/knn_top1 54, heard of 32 s ago" in text
    assert "budget: 10% of epochs" in text


def test_nothing_is_promised_before_trials_have_ended() -> None:
    found = stand([entry(0, "running", 0)])
    assert (found.left.epochs, found.left.epochs_worst, found.left.seconds) == (None, 100, None)
    assert "about" not in found.left.describe()


def test_repeats_that_are_to_come_count() -> None:
    changes = {"trials": 1, "priors": [{}], "noise": {"seeds": 3}}
    first = entry(0, "complete", 10)
    again = [entry(n, "complete", 10, role=Role("repeat", 0, n)) for n in (1, 2)]
    assert stand([first], alive=False, **changes).left.epochs_worst == 20
    done = stand([first, *again], alive=False, **changes)
    assert (done.state, done.left.epochs_worst, done.seeds) == ("finished", 0, 3)
    more = {"noise": {"seeds": 3, "best_seeds": 5}}
    assert stand([first, *again], alive=False, **changes | more).left.epochs_worst == 20


def test_a_budget_that_is_used_up_is_why_it_stopped() -> None:
    trials = [entry(0, "complete", 10), entry(1, "complete", 10)]
    assert stand(trials, alive=False).state == "stopped"
    assert stand(trials, alive=False, budget={"epochs": 20}).state == "budget"


def test_a_holder_is_told_without_touching_the_lease(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    assert read_holder(path) is None
    lease = Lease(path)
    lease.take()
    try:
        holder = read_holder(path)
        assert holder is not None
        assert (holder.alive, holder.pid, holder.token) == (True, os.getpid(), lease.token)
    finally:
        lease.release()
    assert read_holder(path) is None
    held = {
        "host": "elsewhere",
        "boot": "x",
        "pid": 7,
        "started": 0.0,
        "token": "t",
        "beat": time.time() - 31,
    }
    path.write_text(json.dumps(held))
    holder = read_holder(path)
    assert holder is not None
    assert not holder.alive
    path.write_text(json.dumps(held | {"beat": time.time()}))
    assert read_holder(path).alive  # type: ignore[union-attr]
    assert socket.gethostname() != "elsewhere"


def test_a_stop_is_for_the_driver_it_names(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.dump({"study": "x", "space": space().to_dict(), "base": {}}))
    lease = Lease(tmp_path / "lease.json")
    lease.take()
    try:
        with pytest.raises(RayslError, match=r"has not stopped within 0\.3 s"):
            stop(tmp_path, wait_s=0.3, say=lambda line: None)
        mine, other = StopFile(tmp_path, lease.token), StopFile(tmp_path, "another")
        assert mine()
        assert not other()
        other.remove()
        mine.remove_stale()
        assert stop_path(tmp_path).exists()
        mine.remove()
        assert not stop_path(tmp_path).exists()
        assert not StopFile(tmp_path, lease.token)()
    finally:
        lease.release()
    assert not stop(tmp_path).was_running


def test_the_rungs_signals_are_told_as_soon_as_they_are_known() -> None:
    swept = simulated().trials
    whole = status_of(Record(Path("simulated"), built(), swept, []), None, "", 0.0)
    assert [signal.epoch for signal in whole.signals] == [1, 3]
    for signal in whole.signals:
        assert signal.correlation.audited >= 4
        assert signal.describe()[0] in whole.describe().splitlines()
    early = status_of(Record(Path("simulated"), built(), swept[:2], []), None, "", 0.0)
    assert "rank correlation" not in early.describe()
