"""What ends a trial whatever the others do: it diverges, or its time is up. Pure in its own reports.

The loop ends a trial by itself at NaN, infinity and collapse; the ledger, where the objective is not finite.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from raysl.tune.judging.history import score
from raysl.tune.records.entry import Entry, Report
from raysl.tune.spaces.stopping_config import StoppingConfig

_LOSS = "train/loss"


class Limit(NamedTuple):
    """How a trial ends that has reached a limit of its own."""

    state: Literal["failed", "pruned"]
    """`failed` where its parameters are to blame, `pruned` where it merely took too long."""
    cause: Literal["divergence", "time"]
    """A stable word for tables and ledgers."""
    reason: str
    """A sentence for people."""


def limit(entry: Entry, config: StoppingConfig, maximize: bool) -> Limit | None:
    """Say whether a trial has reached a limit of its own with its last report.

    A trial whose last epoch is on record is complete and need not be asked about.

    Args:
        entry: the trial, with the report that has just arrived.
        config: the limits.
        maximize: whether larger values of the objective are better.
    """
    if config.divergence is not None:
        told = _divergence(entry.reports, config.divergence, maximize)
        if told is not None:
            return Limit("failed", "divergence", told)
    hours = training_hours(entry)
    if config.trial_hours is not None and hours > config.trial_hours:
        return Limit("pruned", "time", f"{hours:.3g} hours of training, more than {config.trial_hours:g}")
    return None


def training_hours(entry: Entry) -> float:
    """Return how long a trial has trained, over all its attempts.

    An attempt's time runs from its launch to the last epoch recorded before the next launch; what came after
    that epoch is not known, and the time between attempts is nobody's. An epoch that a later attempt reports,
    because the driver had not heard of it, counts for the attempt that recorded it.
    """
    launches = sorted(entry.launches)
    last = dict.fromkeys(range(len(launches)), 0.0)
    for report in entry.reports:
        attempt = bisect.bisect_right(launches, report.time) - 1
        if attempt >= 0:
            last[attempt] = max(last[attempt], report.time - launches[attempt])
    return sum(last.values()) / 3600.0


def _divergence(reports: Sequence[Report], rises: int, maximize: bool) -> str | None:
    """Say how a trial diverges, if it does.

    Its loss rose at each of its last epochs, `rises` of them, to above that of its first epoch, and the
    objective was measured over them and is no better than before. A loss may be negative, so nothing is said
    in shares of it. That it rises is not enough: losses with a queue or a teacher may rise while the network
    learns, and then the objective says so.
    """
    known = [report for report in reports if _LOSS in report.metrics]
    losses = [report.metrics[_LOSS] for report in known]
    tail = losses[-rises - 1 :]
    rising = len(tail) > rises and all(after > before for before, after in pairwise(tail))
    # Infinity is the loop's own affair, and no loss is above NaN.
    if not rising or not math.isfinite(tail[-1]) or not tail[-1] > losses[0]:
        return None
    begin = known[-rises].epoch
    measured = [
        (report.epoch, score(report.value, maximize)) for report in reports if report.value is not None
    ]
    before = max((value for epoch, value in measured if epoch < begin), default=None)
    during = max((value for epoch, value in measured if epoch >= begin), default=None)
    if before is None or during is None or during > before:
        return None
    return (
        f"the loss rose over {rises} epochs to {tail[-1]:.4g}, above the {losses[0]:.4g} of the first, and "
        "the objective is no better; lower the learning rate, or set stopping.divergence=null"
    )
