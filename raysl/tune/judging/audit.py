"""The rung audit: some losers run on to their end, so that a sweep can tell whether stopping them was right.

Without them only the winners of a rung have an end, and nothing says how the losers would have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from raysl.tune.judging.history import GO_ON, Decision, History, Rule
from raysl.tune.judging.signal import Correlation, correlation_at

KNOWN_AUDITED = 4
"""Audited losers that must have ended before a rung's signal is believed."""


@dataclass(frozen=True)
class Audited:
    """A rule, and what is done about its losers.

    A loser is stopped, unless the rung's signal is weak (nobody is stopped there, as long as it is) or the
    audit is behind its quota (this one runs on, and is neither asked about nor compared with again).

    Args:
        rule: the rule.
        epochs: epochs of a whole trial.
        share: share of the losers that are audited.
        least: how many are audited at least, of every third of the first losers.
        min_signal: rank correlation with the end below which a rung stops nobody; None: every rung stops.
        signal_trials: trials with an end, four of them audited, from which that correlation is believed.
    """

    rule: Rule
    epochs: int
    share: float
    least: int
    min_signal: float | None
    signal_trials: int

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Ask the rule, and spare or audit its loser."""
        if number in history.audited:
            return GO_ON
        decision = self.rule.decide(history, number, epoch)
        if not decision.stop:
            return decision
        weak = self._weak(history, epoch)
        if weak is not None:
            reason = (
                f"the signal at epoch {epoch} is weak (rank correlation {weak.value:.2f} of {weak.trials} "
                f"trials): nobody is stopped here; {decision.reason}"
            )
            return replace(decision, stop=False, reason=reason, spared=True)
        # Asked again after its stop was put on record, it is still one loser.
        losers = len(history.stopped - {number}) + len(history.audited) + 1
        if len(history.audited) < quota(losers, self.share, self.least):
            reason = f"{decision.reason}; runs on as part of the rung audit"
            return replace(decision, stop=False, reason=reason, audit=True)
        return decision

    def rungs(self) -> list[int]:
        """Return the rule's."""
        return self.rule.rungs()

    def _weak(self, history: History, epoch: int) -> Correlation | None:
        """Return the correlation at an epoch where it is known and below the least that stops."""
        if self.min_signal is None:
            return None
        found = correlation_at(history, epoch, self.epochs)
        known = found.trials >= self.signal_trials and found.audited >= KNOWN_AUDITED
        return found if known and found.value is not None and found.value < self.min_signal else None


def quota(losers: int, share: float, least: int) -> int:
    """Return how many of so many losers are audited.

    max(ceil(share k), min(least, ceil(k / 3))) of k: the share, and at first every third one up to the
    least. It never looks at how many trials are to come, so that a sweep may be extended.
    """
    # The decimal that the user wrote is meant, not the float a hair above it.
    shared = math.ceil(round(share * losers, 9))
    return max(shared, min(least, math.ceil(losers / 3)))
