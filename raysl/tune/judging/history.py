"""What a stopping rule may see, and what it says.

Legend: a curve maps epochs (from 1) to the metric that trials are compared by; an epoch at which it was not
measured is absent. A loser is a trial that a rule would stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Curve = Mapping[int, float]
Curves = Mapping[int, Curve]


@dataclass(frozen=True)
class History:
    """A sweep as a stopping rule sees it, the new report included.

    Only searched trials are in it: repeats and promotions are neither judged nor compared with. Where a sweep
    has several objectives, the curves are those of the one that stops.

    Args:
        curves: all curves on record, that of the trial which has just reported included.
        complete: trials that reached their last epoch.
        audited: losers that were let run on, with the epoch at which they lost; whatever became of them.
        stopped: losers that were stopped by the rule; not those that a limit of their own ended.
    """

    curves: Curves
    complete: frozenset[int] = frozenset()
    audited: Mapping[int, int] = field(default_factory=dict)
    stopped: frozenset[int] = frozenset()

    def scores(self, epoch: int, maximize: bool) -> dict[int, float]:
        """Return how good each trial was at an epoch, by number: larger is better.

        A trial that is audited is left out after the epoch at which it lost: the others were not let run on.
        """
        return {
            number: score(self.curves[number][epoch], maximize)
            for number in sorted(self.curves)
            if epoch in self.curves[number] and epoch <= self.audited.get(number, epoch)
        }


@dataclass(frozen=True)
class Decision:
    """What a rule says about one report.

    Args:
        stop: whether the trial ends here.
        reason: why, for people and the ledger; empty where nothing was compared.
        peers: numbers of the trials it was compared with.
        audit: it lost here, but runs on to its end so that the rule can be judged; it is not asked about
            again.
        spared: it lost here, but nobody is stopped at this epoch, whose signal is weak.
    """

    stop: bool
    reason: str = ""
    peers: tuple[int, ...] = ()
    audit: bool = False
    spared: bool = False


GO_ON = Decision(False)


class Rule(Protocol):
    """Says whether a trial is worth going on with: a pure function of what it is given."""

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Decide about a trial that has just reported.

        Args:
            history: the sweep so far, with the new report.
            number: the trial.
            epoch: the epoch it reported.

        Returns:
            The decision; to go on where the metric was not measured at that epoch.
        """
        ...

    def rungs(self) -> list[int]:
        """Return the epochs at which it may stop a trial, where the metric is measured there."""
        ...


def score(value: float, maximize: bool) -> float:
    """Return how good a value is: larger is better, and what is not finite is worse than any number."""
    if not math.isfinite(value):
        return -math.inf
    # So that a zero has no sign, which would depend on the order it was met in.
    return (value if maximize else -value) + 0.0
