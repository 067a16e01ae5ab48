"""Stopping rules: pure functions of the recorded curves.

A rule is asked once, when a report arrives, and its answer is stored with the report; asked again about the
same curves it gives the same answer, so a sweep can be continued, replayed and simulated. A rule never sees
the clock, the order of trials or its own earlier answers.

Legend: a curve maps epochs (from 1) to the objective; an epoch at which it was not measured is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from raysl.errors import InputError
from raysl.tune.resolve import Space
from raysl.tune.space import StoppingConfig

Curve = Mapping[int, float]
Curves = Mapping[int, Curve]


@dataclass(frozen=True)
class Decision:
    """What a rule says about one report.

    Args:
        stop: whether the trial ends here.
        reason: why, for people and the ledger; empty where nothing was compared.
        peers: numbers of the trials it was compared with.
    """

    stop: bool
    reason: str = ""
    peers: tuple[int, ...] = ()


GO_ON = Decision(False)


class Rule(Protocol):
    """Says whether a trial is worth going on with."""

    def decide(self, curves: Curves, number: int, epoch: int) -> Decision:
        """Decide about a trial that has just reported.

        Args:
            curves: all curves as recorded, that trial's with the new report.
            number: the trial.
            epoch: the epoch it reported.

        Returns:
            The decision; to go on where the objective was not measured at that epoch.
        """
        ...


@dataclass(frozen=True)
class NoStopping:
    """Every trial runs to its end."""

    def decide(self, curves: Curves, number: int, epoch: int) -> Decision:
        """Go on."""
        return GO_ON


@dataclass(frozen=True)
class SuccessiveHalving:
    """At each rung the best 1/eta of the trials seen there go on; rungs are a factor eta apart.

    keep = max(1, floor(n / eta)) of the n trials measured at the rung; stop where keep or more of them are
    strictly better. Nobody is stopped while n < eta: from fewer, the best 1/eta cannot be told. NaN is worse
    than any number.

    Args:
        epochs: epochs of a whole trial; the last is never a rung.
        min_epochs: the first rung.
        eta: reduction factor.
        maximize: whether larger is better.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), 2020, Algorithm 2. There
    a trial waits at a rung until it is promoted; here it is stopped at once where it would not be, so that no
    trial is ever paused.
    """

    epochs: int
    min_epochs: int
    eta: int
    maximize: bool

    def decide(self, curves: Curves, number: int, epoch: int) -> Decision:
        """Compare the trial with all others measured at this rung."""
        if epoch not in self.rungs() or epoch not in curves[number]:
            return GO_ON
        peers = {other: curve[epoch] for other, curve in curves.items() if epoch in curve}
        mine, keep = peers[number], max(1, len(peers) // self.eta)
        better = sum(_better(value, mine, self.maximize) for value in peers.values())
        reason = f"rank {better + 1} of {len(peers)} at epoch {epoch}, where the best {keep} go on"
        stop = len(peers) >= self.eta and better >= keep
        return Decision(stop, reason, tuple(sorted(peers.keys() - {number})))

    def rungs(self) -> list[int]:
        """Return the epochs at which trials are compared."""
        found, rung = [], self.min_epochs
        while rung < self.epochs:
            found.append(rung)
            rung *= self.eta
        return found


@dataclass(frozen=True)
class MedianRule:
    """A trial goes on while its best so far is at least the median of the others at the same epoch.

    Args:
        epochs: epochs of a whole trial; it is never stopped at the last.
        min_epochs: epochs before the first comparison.
        min_trials: others that must have been measured at the epoch.
        maximize: whether larger is better.

    Source: Golovin et al., Google Vizier, 2017, section 3.2.2 (median stopping). There the others' running
    means are used; their values at the epoch itself are used here, because SSL curves rise throughout.
    """

    epochs: int
    min_epochs: int
    min_trials: int
    maximize: bool

    def decide(self, curves: Curves, number: int, epoch: int) -> Decision:
        """Compare the trial's best so far with the others' median at this epoch."""
        mine = curves[number]
        if not self.min_epochs <= epoch < self.epochs or epoch not in mine:
            return GO_ON
        others = {
            other: curve[epoch]
            for other, curve in curves.items()
            if other != number and epoch in curve and not math.isnan(curve[epoch])
        }
        if len(others) < self.min_trials:
            return GO_ON
        best, middle = math.nan, median(others.values())
        for at, value in sorted(mine.items()):
            if at <= epoch and _better(value, best, self.maximize):
                best = value
        reason = f"best so far {best:.4g}, median of {len(others)} others at epoch {epoch} {middle:.4g}"
        return Decision(_better(middle, best, self.maximize), reason, tuple(sorted(others)))


def build_rule(config: StoppingConfig, epochs: int, maximize: bool) -> Rule:
    """Make the rule a space asks for, over trials of so many epochs."""
    if config.rule == "successive_halving":
        return SuccessiveHalving(epochs, config.min_epochs, config.reduction_factor, maximize)
    if config.rule == "median":
        return MedianRule(epochs, config.min_epochs, config.min_trials, maximize)
    return NoStopping()


def check_stopping(space: Space) -> str:
    """Return the stopping rule in a few words.

    Raises:
        InputError: it could never act, or compares trials after epochs at which nothing is measured.
    """
    stopping, every, metric = (
        space.config.stopping,
        space.base.diagnostics.every,
        space.config.objective.metric,
    )
    if stopping.rule == "none":
        return "none"
    if stopping.min_epochs >= space.epochs:
        raise InputError(
            f"stopping.min_epochs = {stopping.min_epochs}: trials have {space.epochs} epochs, so none could "
            "be stopped; lower it, raise epochs, or set stopping.rule=none"
        )
    rule = build_rule(stopping, space.epochs, space.config.objective.direction == "maximize")
    if not isinstance(rule, SuccessiveHalving):
        return f"{stopping.rule} from epoch {stopping.min_epochs}"
    rungs = rule.rungs()
    shown = ", ".join(map(str, rungs))
    # The first rung divides the others.
    if metric.startswith("eval/knn") and rungs[0] % every:
        raise InputError(
            f"diagnostics.every = {every}: {metric} is not measured at epochs {shown}, where "
            f"successive_halving compares trials; use diagnostics.every={rungs[0]}"
        )
    return f"{stopping.rule} at epochs {shown}"


def _better(left: float, right: float, maximize: bool) -> bool:
    """Tell whether left is strictly better; any number is better than NaN."""
    if math.isnan(left) or math.isnan(right):
        return math.isnan(right) and not math.isnan(left)
    return left > right if maximize else left < right
