"""The ledger: contiguous, fenced, counted, settled; a journal cut anywhere."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from raysl.errors import RayslError
from raysl.tune.agenda import Proposal, propose
from raysl.tune.records.entry import Entry, Report, State, record_at
from raysl.tune.records.lease import Lease, LeaseLostError
from raysl.tune.records.ledger import Ledger, LedgerError
from raysl.tune.records.storage import repair_journal
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space

KNN = "eval/knn_top1"


@pytest.fixture(scope="module")
def built() -> Space:
    return Space(space())


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    held = Lease(tmp_path / "lease.json")
    held.take()
    yield held
    held.release()


def opened(where: Path, lease: Lease) -> Ledger:
    """Return the ledger of a sweep's directory."""
    return Ledger(where / "study.log", "small", Space(space()), lease)


def ask(ledger: Ledger, built: Space) -> Entry:
    """Put what comes next on record."""
    proposal = propose(built, ledger.trials)
    assert isinstance(proposal, Proposal)
    return ledger.ask(proposal)


def report(ledger: Ledger, number: int, epoch: int, value: float | None = 0.5, stop: str = "") -> None:
    metrics = {"train/loss": 1.0 / epoch} | ({} if value is None else {KNN: value})
    told = Report(epoch, value, float(epoch), ledger.trials[number].fence, metrics)
    cause = "pruned" if value is None or math.isfinite(value) else "nan" if math.isnan(value) else "inf"
    ends: State = "pruned" if cause == "pruned" else "failed"
    if stop:
        told = replace(told, stop=stop, peers=(1, 2), ends=ends, cause=cause)
    ledger.report(number, told)


def prune(ledger: Ledger, number: int, stop: str) -> None:
    report(ledger, number, ledger.trials[number].epoch + 1, stop=stop)
    assert ledger.conclude(number)


def test_everything_comes_back(tmp_path: Path, lease: Lease, built: Space) -> None:
    ledger = opened(tmp_path, lease)
    for number in range(5):
        assert ask(ledger, built).number == number
        assert ledger.launch(number) == 1
        report(ledger, number, 1)
    for epoch in (2, 3, 4):
        report(ledger, 0, epoch, epoch / 10)
    ledger.complete(0)
    prune(ledger, 1, "rank 3 of 4")
    ledger.fail(2, "nan", "the loss became nan")
    assert ledger.died(3, "killed", "gone", attempts=2)
    assert ledger.launch(3) == 2
    report(ledger, 3, 2, None)
    again = opened(tmp_path, lease)
    assert again.trials == ledger.trials
    assert [entry.number for entry in again.running()] == [3, 4]
    assert again.trials[0].value == 0.4
    assert again.trials[2].cause == "nan"
    assert again.trials[3].curve == {1: 0.5}
    assert again.trials[3].epoch == 2
    assert again.trials[4].saw == {"ended": "", "running": {str(n): 1 for n in range(4)}}
    assert ask(again, built).saw["ended"] == "0-2"


def test_epochs_follow_each_other(tmp_path: Path, lease: Lease, built: Space) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    ledger.launch(0)
    with pytest.raises(LedgerError, match="epoch 2 reported after epoch 0"):
        report(ledger, 0, 2)
    report(ledger, 0, 1)
    for epoch in (1, 3):
        with pytest.raises(LedgerError, match=f"epoch {epoch} reported after epoch 1"):
            report(ledger, 0, epoch)
    assert opened(tmp_path, lease).trials[0].epoch == 1


def test_an_attempt_that_is_over_is_refused(tmp_path: Path, lease: Lease, built: Space) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    old = ledger.launch(0)
    new = ledger.launch(0)
    assert new > old
    with pytest.raises(LedgerError, match="attempt 1 reports, but attempt 2"):
        ledger.report(0, Report(1, 0.5, 0.0, old, {}))
    ledger.report(0, Report(1, 0.5, 0.0, new, {}))


def test_a_trial_that_has_ended_stays_as_it_is(tmp_path: Path, lease: Lease, built: Space) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    ledger.launch(0)
    report(ledger, 0, 1)
    prune(ledger, 0, "why not")
    for act in (
        lambda: ledger.launch(0),
        lambda: report(ledger, 0, 2),
        lambda: ledger.complete(0),
        lambda: ledger.fail(0, "nan", ""),
    ):
        with pytest.raises(LedgerError, match="has ended"):
            act()


@pytest.mark.parametrize(("value", "said"), [(None, "was not measured"), (math.nan, "is nan")])
def test_a_trial_without_an_objective_at_its_last_epoch_has_failed(
    tmp_path: Path, lease: Lease, built: Space, *, value: float | None, said: str
) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    ledger.launch(0)
    for epoch in (1, 2, 3):
        report(ledger, 0, epoch)
    report(ledger, 0, 4, value)
    assert ledger.conclude(0)
    assert (ledger.trials[0].state, ledger.trials[0].cause) == ("failed", "nan")
    assert said in ledger.trials[0].reason


def test_attempts_are_counted_across_drivers_but_drivers_are_not(
    tmp_path: Path, lease: Lease, built: Space
) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    for fence in range(1, 6):
        assert ledger.launch(0) == fence
        ledger = opened(tmp_path, lease)
    assert ledger.died(0, "killed", "gone", attempts=3)
    ledger = opened(tmp_path, lease)
    ledger.launch(0)
    assert ledger.died(0, "killed", "gone", attempts=3)
    ledger = opened(tmp_path, lease)
    ledger.launch(0)
    assert not ledger.died(0, "oom", "too big", attempts=3)
    assert opened(tmp_path, lease).trials[0].cause == "oom"
    assert "died 3 times" in ledger.trials[0].reason


def test_a_decision_to_stop_outlives_the_driver_that_made_it(
    tmp_path: Path, lease: Lease, built: Space
) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    ledger.launch(0)
    report(ledger, 0, 1, stop="rank 3 of 3")
    assert ledger.trials[0].state == "running"
    again = opened(tmp_path, lease).trials[0]
    assert (again.state, again.reason) == ("pruned", "rank 3 of 3")


@pytest.mark.parametrize(
    ("epochs", "value", "stop", "state", "cause"),
    [
        (4, 0.7, "", "complete", "complete"),
        (4, math.nan, "the objective is nan", "failed", "nan"),
        (2, -math.inf, "the objective is -inf", "failed", "inf"),
        (2, 0.7, "", "running", ""),
    ],
)
def test_what_the_last_report_decides_outlives_a_crash_before_the_end_is_written(
    tmp_path: Path,
    lease: Lease,
    built: Space,
    *,
    epochs: int,
    value: float,
    stop: str,
    state: State,
    cause: str,
) -> None:
    ledger, path = opened(tmp_path, lease), tmp_path / "study.log"
    ask(ledger, built)
    ledger.launch(0)
    for epoch in range(1, epochs):
        report(ledger, 0, epoch)
    report(ledger, 0, epochs, value, stop)
    assert ledger.conclude(0) is (state != "running")
    lines = path.read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if b'"end"' in line]
    path.write_bytes(b"".join(lines[: ends[0]] if ends else lines))
    again = opened(tmp_path, lease).trials[0]
    assert (again.state, again.cause, again.epoch) == (state, cause, epochs)
    assert again.value == (value if state == "complete" else None)


def test_a_driver_that_has_lost_the_lease_writes_nothing(tmp_path: Path, lease: Lease, built: Space) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    ledger.launch(0)
    before = (tmp_path / "study.log").read_bytes()
    lease.release()
    successor = Lease(tmp_path / "lease.json")
    successor.take()
    for act in (
        lambda: ask(ledger, built),
        lambda: ledger.launch(0),
        lambda: report(ledger, 0, 1),
        lambda: ledger.fail(0, "nan", ""),
    ):
        with pytest.raises(LeaseLostError):
            act()
    assert (tmp_path / "study.log").read_bytes() == before
    successor.release()


def facts(entries: list[Entry]) -> list[tuple[object, ...]]:
    return [(entry.number, entry.params, entry.curve, entry.fence) for entry in entries]


def test_a_journal_cut_anywhere_in_its_last_lines_opens_and_goes_on(
    tmp_path: Path, lease: Lease, built: Space
) -> None:
    ledger = opened(tmp_path, lease)
    for number in range(2):
        ask(ledger, built)
        ledger.launch(number)
    report(ledger, 0, 1)
    prune(ledger, 1, "rank 2 of 2")
    whole = (tmp_path / "study.log").read_bytes()
    lines = whole.splitlines(keepends=True)
    tail = sum(len(line) for line in lines[-3:])
    for cut in range(len(whole) - tail, len(whole) + 1):
        home = tmp_path / f"cut{cut}"
        home.mkdir()
        (home / "study.log").write_bytes(whole[:cut])
        (home / "study.log.lock").symlink_to(home / "study.log")
        kept = max(end for end in range(cut + 1) if end == 0 or whole[end - 1 : end] == b"\n")
        again = opened(home, lease)
        assert (home / "study.log").read_bytes()[:kept] == whole[:kept]
        assert [entry.params for entry in again.trials] == [entry.params for entry in ledger.trials]
        if again.trials[1].state == "running":
            again.launch(1)
        report(again, 0, 2)
        after = opened(home, lease)
        assert facts(after.trials) == facts(again.trials)
        assert after.trials[0].epoch == 2


def test_an_end_without_its_state_keeps_its_place_and_nothing_else_takes_it(
    tmp_path: Path, lease: Lease, built: Space
) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    ledger.launch(0)
    prune(ledger, 0, "rank 2 of 2")
    lines = (tmp_path / "study.log").read_bytes().splitlines(keepends=True)
    assert b'"end"' in lines[-2]
    (tmp_path / "study.log").write_bytes(b"".join(lines[:-1]))
    again = opened(tmp_path, lease)
    assert again.trials == ledger.trials
    following = ask(again, built)
    assert following.asked_seq == (again.trials[0].end_seq or 0) + 1
    assert [entry.state for entry in record_at(again.trials, following.asked_seq)] == ["pruned"]


def test_the_last_of_a_trials_deaths_is_its_end_whatever_the_driver_does(
    tmp_path: Path, lease: Lease, built: Space
) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    for _ in range(3):
        ledger.launch(0)
        ledger.died(0, "killed", "gone", attempts=3)
    lines = (tmp_path / "study.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "study.log").write_bytes(b"".join(lines[:-2]))
    assert b'"death:003"' in lines[-3]
    found = opened(tmp_path, lease).trials[0]
    assert (found.state, found.cause, found.reason) == ("failed", "killed", ledger.trials[0].reason)


def test_repair_cuts_what_follows_the_last_newline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "study.log"
    path.write_bytes(b'{"op_code":0}\n{"op_code":1}\n')
    assert repair_journal(path) == 0
    path.write_bytes(b'{"op_code":0}\n{"op_co')
    assert repair_journal(path) == 7
    assert path.read_bytes() == b'{"op_code":0}\n'
    path.write_bytes(b"{")
    assert repair_journal(path) == 1
    assert repair_journal(tmp_path / "none") == 0
    assert caplog.messages == []


def test_repair_cuts_one_unreadable_line_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("raysl"), "propagate", True)
    path = tmp_path / "study.log"
    path.write_bytes(b'{"op_code":0}\n{"op_co\n\x00\x00\x00\n')
    assert repair_journal(path) == 4
    assert path.read_bytes() == b'{"op_code":0}\n{"op_co\n'
    assert "last line cannot be read" in caplog.text


def test_damage_in_the_middle_is_an_error_and_nothing_is_cut(
    tmp_path: Path, lease: Lease, built: Space
) -> None:
    ledger = opened(tmp_path, lease)
    ask(ledger, built)
    path = tmp_path / "study.log"
    damaged = path.read_bytes().replace(b'"op_code":0', b'"op_c\xff', 1)
    path.write_bytes(damaged)
    with pytest.raises(RayslError, match="damaged before its last line"):
        opened(tmp_path, lease)
    assert path.read_bytes() == damaged


def test_a_database_is_a_ledger_too(tmp_path: Path, lease: Lease, built: Space) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger(url, "small", built, lease)
    ask(ledger, built)
    ledger.launch(0)
    report(ledger, 0, 1, stop="rank 9 of 9")
    again = Ledger(url, "small", built, lease)
    assert again.trials[0].state == "pruned"
    assert again.trials[0].params == ledger.trials[0].params
