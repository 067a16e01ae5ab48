"""What the record of a sweep says to its stopping rule, and about its rungs."""

from __future__ import annotations

from raysl.tune.judging.rungs import history_of, rung_signals
from raysl.tune.records.entry import Entry, Report, Role, State
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space


def entry(number: int, values: list[float | None], *, audit: int | None = None, cause: str = "") -> Entry:
    """Return a trial that reported these values, and lost at an epoch if it was audited."""
    reports = [
        Report(epoch, value, 0.0, 1, {}, audit="it lost" if epoch == audit else None)
        for epoch, value in enumerate(values, 1)
    ]
    state: State = "complete" if len(values) == 9 else "running"
    return Entry(number, {"optimizer.lr": 0.1 * (number + 1)}, {}, state=state, reports=reports, cause=cause)


def test_a_rule_sees_who_lost_where_and_who_was_stopped_by_it() -> None:
    history = history_of(
        [
            entry(0, [1.0, None, 3.0]),
            entry(2, [1.0] * 9),
            entry(3, [0.5] * 9, audit=2),
            entry(4, [0.5, 0.4], audit=1),
            entry(5, [0.0, 0.0], cause="pruned"),
            entry(6, [0.0, 0.0], cause="time"),
            entry(7, [0.0], cause="nan"),
        ]
    )
    assert history.curves[0] == {1: 1.0, 3: 3.0}
    assert list(history.curves) == [0, 2, 3, 4, 5, 6, 7]
    assert history.complete == {2, 3}
    assert history.audited == {3: 2, 4: 1}
    assert history.stopped == {5}


def test_the_report_tells_the_rungs_of_searched_trials_whatever_the_rule() -> None:
    trials = [entry(number, [float(number * epoch) for epoch in range(1, 10)]) for number in range(6)]
    again = entry(6, [-9.0] * 9)
    again.role = Role("repeat", of=0, seed=1)
    for rule in ("successive_halving", "median", "patience", "none"):
        built = Space(space(stopping={"rule": rule, "patience": 2}, epochs=9))
        found = rung_signals(built.config, built.base, built.epochs, [*trials, again])
        assert [signal.epoch for signal in found] == [2, 6]
        assert [signal.correlation.value for signal in found] == [1.0, 1.0]
        assert found[0].correlation.trials == 6
        assert [third.correlation.trials for third in found[0].terciles] == [2, 2, 2]
    sparse = Space(space(stopping={"rule": "none"}, epochs=9, overrides={"diagnostics.every": 3}))
    told = rung_signals(sparse.config, sparse.base, 9, trials)
    assert [signal.epoch for signal in told] == [6]
