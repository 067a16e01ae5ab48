"""What ends a trial whatever the others do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from raysl.tune.judging.limits import limit, training_hours
from raysl.tune.records.entry import Entry, Report
from raysl.tune.spaces.stopping_config import StoppingConfig
from raysl.tune.trials.messages import End, Launch
from raysl.tune.trials.runner import TrialRunner
from tests.train.made import config, digits
from tests.train.test_stopping import COLLAPSES

HOUR = 3600.0


def entry(
    losses: Sequence[float | None], values: Sequence[float | None] | None = None, *,
    times: Sequence[float] | None = None, launches: Sequence[float] = (0.0,),
) -> Entry:  # fmt: skip
    """Return a trial with these reports; a loss or an objective may be missing."""
    values = [1.0] * len(losses) if values is None else values
    times = [60.0 * epoch for epoch in range(1, len(losses) + 1)] if times is None else times
    reports = [
        Report(epoch, value, at, 1, {} if loss is None else {"train/loss": loss})
        for epoch, (loss, value, at) in enumerate(zip(losses, values, times, strict=True), 1)
    ]
    return Entry(0, {}, {}, reports=reports, launches=list(launches))


def diverges(losses: Sequence[float | None], values: Sequence[float | None] | None = None) -> bool:
    found = limit(entry(losses, values), StoppingConfig(divergence=3), maximize=True)
    return found is not None and (found.state, found.cause) == ("failed", "divergence")


def test_a_loss_that_rises_above_its_first_diverges() -> None:
    assert diverges([1.0, 0.5, 0.8, 1.0, 1.1])
    assert diverges([-5.0, -6.0, -5.5, -5.2, -4.9])
    assert diverges([1.0, 0.5, None, 0.8, None, 1.0, 1.1])
    told = limit(entry([1.0, 0.5, 0.8, 1.0, 1.1]), StoppingConfig(divergence=3), maximize=True)
    assert told is not None
    assert told.reason == (
        "the loss rose over 3 epochs to 1.1, above the 1 of the first, and the objective is no better; "
        "lower the learning rate, or set stopping.divergence=null"
    )


def test_a_loss_that_rises_a_little_or_falls_between_does_not() -> None:
    assert not diverges([1.0, 0.5, 0.8, 1.0, 1.0])
    assert not diverges([1.0, 0.5, 0.6, 0.7, 0.8])
    assert not diverges([1.0, 1.2, 1.1, 1.3, 1.4])
    assert not diverges([1.0, 1.1, 1.2])
    assert not diverges([1.0, 1.1, 1.2, float("nan"), 1.4, 1.5])
    assert not diverges([1.0, 0.9, 1.1, float("inf")])
    assert not diverges([])
    assert not diverges([-5.0, -6.0, -5.8, -5.6, -5.4])


def test_a_loss_may_rise_while_the_objective_improves() -> None:
    """As where a queue or a teacher makes the task harder."""
    losses = [1.0, 1.1, 1.2, 1.3]
    assert not diverges(losses, [50.0, 51.0, 52.0, 53.0])
    assert not diverges(losses, [50.0, None, 52.0, None])
    assert not diverges(losses, [50.0, 51.0, 49.0, 48.0])
    assert diverges(losses, [50.0, 49.0, 50.0, 48.0])
    # Nothing is said where the objective was not looked at meanwhile.
    assert not diverges(losses, [50.0, None, None, None])
    worse = limit(entry(losses, [50.0, 51.0, 52.0, 53.0]), StoppingConfig(divergence=3), maximize=False)
    assert worse is not None


def test_divergence_is_off_with_null_and_cautious_by_default() -> None:
    losses = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    assert limit(entry(losses), StoppingConfig(divergence=None), maximize=True) is None
    assert limit(entry(losses), StoppingConfig(), maximize=True) is not None
    assert limit(entry(losses[:-1]), StoppingConfig(), maximize=True) is None


def test_hours_are_those_of_all_attempts_up_to_their_last_epoch() -> None:
    """Two hours; a pause; then half an hour. An epoch that only the second reports was made by the first."""
    made = entry([1.0] * 4, times=[HOUR, 2 * HOUR, 10.25 * HOUR, 10.5 * HOUR], launches=[0.0, 10 * HOUR])
    assert training_hours(made) == pytest.approx(2.5)
    assert training_hours(entry([])) == 0.0
    assert limit(made, StoppingConfig(trial_hours=2.5), maximize=True) is None
    told = limit(made, StoppingConfig(trial_hours=2.4), maximize=True)
    assert told == ("pruned", "time", "2.5 hours of training, more than 2.4")
    assert limit(made, StoppingConfig(), maximize=True) is None


def test_clocks_that_disagree_take_no_time_away() -> None:
    made = entry([1.0] * 2, times=[-HOUR, HOUR], launches=[0.0, 5 * HOUR])
    assert training_hours(made) == pytest.approx(1.0)


def test_a_collapse_in_a_sweep_is_told_by_its_name(tmp_path: Path) -> None:
    images = digits(70)
    runner = TrialRunner(lambda fidelity: (images, None))
    launch = Launch(
        number=0,
        fence=1,
        recorded=0,
        directory=str(tmp_path / "0"),
        config=config(*COLLAPSES, method="simclr"),
        fidelity=0,
        threads=1,
        stop_file=str(tmp_path / "stop"),
    )
    runner.begin(launch)
    ended = runner.next()
    runner.finish()
    assert isinstance(ended, End)
    assert ended.cause == "collapse"
    assert "complete: embedding std" in ended.reason
