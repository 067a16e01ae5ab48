"""The bridge: what it does with slots, the stop file and the view when messages and errors arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raysl.errors import InputError
from raysl.tune.agenda import Answer
from raysl.tune.bridge import Bridge
from raysl.tune.judging.stopping import NoStopping
from raysl.tune.records.entry import Entry
from raysl.tune.records.lease import Lease
from raysl.tune.records.ledger import Ledger
from raysl.tune.spaces.resolve import Space
from raysl.tune.trials.messages import End, Launch, Row
from tests.tune.conftest import space

KNN = "eval/knn_top1"


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    held = Lease(tmp_path / "lease.json")
    held.take()
    yield held
    held.release()


def bridge(tmp_path: Path, lease: Lease, ended: list[Entry | None]) -> Bridge:
    built = Space(space())
    ledger = Ledger(tmp_path / "study.log", "small", built, lease)
    return Bridge(ledger, built, NoStopping(), tmp_path, slots=2, changed=ended.append)


def begin(made: Bridge, key: str) -> Launch:
    launch = made.next(key)
    assert isinstance(launch, Launch)
    return launch


def test_an_error_that_ends_the_sweep_stops_all_trials_and_frees_their_slots(
    tmp_path: Path, lease: Lease
) -> None:
    made = bridge(tmp_path, lease, [])
    one, two = begin(made, "one"), begin(made, "two")
    assert made.receive("one", one.number, one.fence, Row(1, 0.0, {"train/loss": 1.0}))
    assert isinstance(made.fatal, InputError)
    assert Path(two.stop_file).exists()
    assert made.next("three") is Answer.LATER
    assert made.receive("two", two.number, two.fence, End("interrupted", "saved"))
    assert made.next("three") is Answer.NEVER


def test_a_driver_without_the_lease_does_not_stop_its_successors_trials(tmp_path: Path, lease: Lease) -> None:
    made = bridge(tmp_path, lease, [])
    one = begin(made, "one")
    lease.release()
    successor = Lease(tmp_path / "lease.json")
    successor.take()
    assert made.receive("one", one.number, one.fence, Row(1, 0.0, {KNN: 1.0}))
    assert made.fatal is not None
    assert not made.stop_file.exists()
    successor.release()


def test_only_an_ended_trial_is_shown_as_ended(tmp_path: Path, lease: Lease) -> None:
    shown: list[Entry | None] = []
    made = bridge(tmp_path, lease, shown)
    one, two = begin(made, "one"), begin(made, "two")
    assert made.receive("one", one.number, one.fence, End("interrupted", "saved"))
    assert shown == [None, None, None]
    assert made.receive("two", two.number, two.fence, End("nan", "the loss became nan"))
    assert shown[3] is made.ledger.trials[two.number]
