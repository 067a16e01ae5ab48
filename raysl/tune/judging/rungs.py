"""At which epochs a sweep's trials are judged, what its rule sees there, and what that says about the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raysl.train.config import RunConfig
from raysl.tune.judging.history import History, Rule
from raysl.tune.judging.rules import SuccessiveHalving
from raysl.tune.judging.signal import Correlation, Signal, correlation_at, signals
from raysl.tune.judging.stopping import build_rule
from raysl.tune.records.entry import Entry
from raysl.tune.spaces.space import SpaceConfig

_RATE = "optimizer.lr"


def rule_of(config: SpaceConfig, epochs: int) -> Rule:
    """Return a space's stopping rule.

    Args:
        config: the search space.
        epochs: epochs of a searched trial that is not stopped.
    """
    return build_rule(config.stopping, epochs, config.judged.direction == "maximize")


def measured(config: SpaceConfig, base: RunConfig, epochs: Iterable[int]) -> list[int]:
    """Return those of some epochs, none of them the last, at which trials measure what stopping compares.

    Args:
        config: the search space.
        base: what a trial starts from.
        epochs: completed epochs.
    """
    sparse = config.judged.metric.startswith("eval/knn")
    return [epoch for epoch in epochs if not sparse or epoch % base.diagnostics.every == 0]


def judged_epochs(config: SpaceConfig, base: RunConfig, ends: Sequence[int]) -> tuple[int, ...]:
    """Return what `schedule.judged` is in a sweep where nobody has set it.

    These are the epochs at which trials are compared before the schedule's end: the rungs at which the metric
    is measured, and the last epochs of the proxies.

    Args:
        config: the search space.
        base: what a whole trial starts from.
        ends: epochs of a trial in each of its forms, the cheapest first and the whole trial last.
    """
    rungs = measured(config, base, rule_of(config, ends[0]).rungs())
    return tuple(sorted({epoch for epoch in [*rungs, *ends] if epoch < base.horizon}))


def history_of(trials: Iterable[Entry]) -> History:
    """Return what a stopping rule sees of trials, all of them searched ones."""
    trials = list(trials)
    return History(
        curves={entry.number: entry.curve for entry in trials},
        complete=frozenset(entry.number for entry in trials if entry.state == "complete"),
        audited={
            entry.number: report.epoch
            for entry in trials
            for report in entry.reports
            if report.audit is not None
        },
        stopped=frozenset(entry.number for entry in trials if entry.cause == "pruned"),
    )


def rung_signals(
    config: SpaceConfig, base: RunConfig, epochs: int, trials: Iterable[Entry]
) -> tuple[Signal, ...]:
    """Return what the rungs of a sweep say about the end, for its report.

    Rules without rungs of their own, which may stop a trial at any epoch, are told at those of successive
    halving; and so is a sweep that stops nobody, which shows what stopping would be worth.

    Args:
        config: the search space.
        base: what a searched trial starts from.
        epochs: its epochs.
        trials: the record.
    """
    searched = [entry for entry in trials if entry.role.kind == "search"]
    stopping = config.stopping
    rungs = SuccessiveHalving(epochs, stopping.min_epochs, stopping.reduction_factor, True).rungs()
    rates = {
        entry.number: rate for entry in searched if isinstance(rate := entry.params.get(_RATE), float | int)
    }
    return signals(history_of(searched), measured(config, base, rungs), epochs, rates)


def form_signals(trials: Sequence[Entry]) -> tuple[Correlation, ...]:
    """Return how well each proxy ranks the trials that were promoted from it, as the next form does.

    Only the best of a proxy are promoted, who are alike, so it says less than a rung's signal does.

    Args:
        trials: the record.
    """
    found = []
    last = max((entry.role.fidelity for entry in trials), default=0)
    for fidelity in range(1, last + 1):
        pairs = {
            entry.number: {1: trials[entry.role.of].value, 2: entry.value}
            for entry in trials
            if entry.role.kind == "promotion" and entry.role.fidelity == fidelity
            if entry.role.of is not None and entry.value is not None
        }
        curves = {
            number: {at: value for at, value in pair.items() if value is not None}
            for number, pair in pairs.items()
        }
        found.append(correlation_at(History(curves, frozenset(curves)), 1, 2))
    return tuple(found)
