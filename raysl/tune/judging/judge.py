"""What is decided about a report: a pure function of the search space and the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from raysl.tune.agenda import is_searched, known_to
from raysl.tune.judging.history import Decision, Rule
from raysl.tune.judging.limits import limit
from raysl.tune.judging.rungs import history_of
from raysl.tune.records.entry import Entry, Report
from raysl.tune.spaces.resolve import Space


def judge(space: Space, rule: Rule, trials: Sequence[Entry], number: int, report: Report) -> Report:
    """Return a report with what is decided about it.

    An objective that is not finite ends a trial, then a limit of its own, then the stopping rule. The rule
    compares searched trials alone; the first configuration runs to its end where it measures luck.

    Args:
        space: the search space.
        rule: its stopping rule.
        trials: the record before this report.
        number: the trial.
        report: as it came.
    """
    before = trials[number]
    # Attempts after this one are not known yet where the record is gone through again.
    launches = before.launches[: report.fence]
    entry = replace(before, reports=[*before.reports, report], launches=launches)
    value = report.value
    if value is not None and not math.isfinite(value):
        cause = "nan" if math.isnan(value) else "inf"
        reason = f"{space.config.judged.metric} is {value} at epoch {report.epoch}"
        return replace(report, stop=reason, ends="failed", cause=cause)
    if report.epoch >= space.epochs_of(entry.role.fidelity):
        return report
    reached = limit(entry, space.config.stopping, space.config.judged.direction == "maximize")
    if reached is not None:
        state, cause, reason = reached
        return replace(report, stop=reason, ends=state, cause=cause)
    if not is_searched(entry) or entry.audited or _is_yardstick(entry, space):
        return report
    decision = _ask(space, rule, trials, entry, report)
    audit = decision.reason if decision.audit else None
    stop = decision.reason if decision.stop and not decision.audit else None
    report = replace(report, stop=stop, audit=audit, peers=decision.peers, note=decision.reason)
    return report if stop is None else replace(report, ends="pruned", cause="pruned")


def _ask(space: Space, rule: Rule, trials: Sequence[Entry], entry: Entry, report: Report) -> Decision:
    known = [*known_to(trials, entry.number, space.config)]
    others = [other for other in known if other.number != entry.number and is_searched(other)]
    return rule.decide(history_of([*others, entry]), entry.number, report.epoch)


def _is_yardstick(entry: Entry, space: Space) -> bool:
    return entry.number == 0 and space.config.noise.seeds > 1 and bool(space.config.priors)
