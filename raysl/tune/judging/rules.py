"""The stopping rules. Each holds its settings and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from raysl.tune.judging.history import GO_ON, Curve, Decision, History, score


@dataclass(frozen=True)
class NoStopping:
    """Every trial runs to its end."""

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Go on."""
        return GO_ON

    def rungs(self) -> list[int]:
        """Return none."""
        return []


@dataclass(frozen=True)
class SuccessiveHalving:
    """At each rung the best 1/eta of the trials seen there go on; rungs are a factor eta apart.

    keep = max(1, floor(n / eta)) of the n trials measured at the rung; stop where keep or more of them are
    strictly better. Nobody is stopped while n < eta: from fewer, the best 1/eta cannot be told.

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

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Compare the trial with all others measured at this rung."""
        if epoch not in self.rungs():
            return GO_ON
        return self.compare(history.scores(epoch, self.maximize), number, epoch)

    def compare(self, scores: dict[int, float], number: int, epoch: int) -> Decision:
        """Compare a trial with those it shares a rung with, by score."""
        if number not in scores:
            return GO_ON
        keep = max(1, len(scores) // self.eta)
        better = sum(value > scores[number] for value in scores.values())
        reason = f"rank {better + 1} of {len(scores)} at epoch {epoch}, where the best {keep} go on"
        stop = len(scores) >= self.eta and better >= keep
        return Decision(stop, reason, tuple(other for other in scores if other != number))

    def rungs(self) -> list[int]:
        """Return the epochs at which trials are compared."""
        found, rung = [], self.min_epochs
        while rung < self.epochs:
            found.append(rung)
            rung *= self.eta
        return found


@dataclass(frozen=True)
class Hyperband:
    """Successive halving in brackets, which differ in how early they begin.

    Bracket b = 0 .. R begins at min_epochs * eta^b, R being the number of rungs below the last epoch; bracket
    R stops nobody. A trial is compared with those of its own bracket. Of a cycle of trials bracket b gets
    ceil((R + 1) eta^(R - b) / (R - b + 1)), so that all brackets spend about as many epochs. Within the cycle
    each trial goes to the bracket that is furthest behind its share; which one follows from its number alone.

    Args:
        epochs: epochs of a whole trial; the last is never a rung.
        min_epochs: the first rung of the first bracket.
        eta: reduction factor.
        maximize: whether larger is better.

    Source: Li et al., Hyperband, 2018 (arXiv 1603.06560), Algorithm 1, for the sizes. There brackets run one
    after another, each on a fixed set of trials; here they run at once and take trials as they come.
    """

    epochs: int
    min_epochs: int
    eta: int
    maximize: bool

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Compare the trial with those of its bracket at this rung."""
        mine = self.bracket(number)
        if epoch not in self.rungs()[mine:]:
            return GO_ON
        scores = history.scores(epoch, self.maximize)
        bracket = {other: value for other, value in scores.items() if self.bracket(other) == mine}
        halving = SuccessiveHalving(self.epochs, self.min_epochs, self.eta, self.maximize)
        found = halving.compare(bracket, number, epoch)
        return Decision(found.stop, f"bracket {mine}: {found.reason}", found.peers) if found.reason else found

    def rungs(self) -> list[int]:
        """Return the rungs of the first bracket, which are those of all brackets."""
        return SuccessiveHalving(self.epochs, self.min_epochs, self.eta, self.maximize).rungs()

    def bracket(self, number: int) -> int:
        """Return the bracket of a trial."""
        cycle = _bracket_cycle(len(self.rungs()), self.eta)
        return cycle[number % len(cycle)]


@dataclass(frozen=True)
class PercentileRule:
    """A trial goes on while its best so far is at least what the best so many percent of the others have.

    At p percent the bar lies at position p/100 (n - 1) of the n others' values at this epoch, best first, and
    between two values on the line through them: 50 is the median.

    Args:
        epochs: epochs of a whole trial; it is never stopped at the last.
        min_epochs: epochs before the first comparison.
        min_trials: others that must have been measured at the epoch.
        maximize: whether larger is better.
        percentile: share of the others, in percent, whose values a trial's best must reach.

    Source: Golovin et al., Google Vizier, 2017, section 3.2.2 (median stopping). There the others' running
    means are used; their values at the epoch itself are used here, because SSL curves rise throughout.
    """

    epochs: int
    min_epochs: int
    min_trials: int
    maximize: bool
    percentile: float

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Compare the trial's best so far with the others at this epoch."""
        mine = history.curves.get(number, {})
        if not self.min_epochs <= epoch < self.epochs or epoch not in mine:
            return GO_ON
        scores = history.scores(epoch, self.maximize)
        others = {o: value for o, value in scores.items() if o != number and math.isfinite(value)}
        if len(others) < self.min_trials:
            return GO_ON
        best = max(score(value, self.maximize) for at, value in mine.items() if at <= epoch)
        bar = quantile(sorted(others.values(), reverse=True), self.percentile / 100.0)
        sign = 1.0 if self.maximize else -1.0
        what = "median" if self.percentile == 50.0 else f"best {self.percentile:g} %"
        shown = f"{sign * best + 0.0:.4g}" if math.isfinite(best) else "not a number"
        reached = f"{sign * bar + 0.0:.4g}"
        reason = f"best so far {shown}, {what} of {len(others)} others at epoch {epoch} {reached}"
        return Decision(bar > best, reason, tuple(others))

    def rungs(self) -> list[int]:
        """Return every epoch at which trials may be compared."""
        return list(range(self.min_epochs, self.epochs))


@dataclass(frozen=True)
class Patience:
    """A trial goes on while it improves; it is compared with itself only.

    Stop where `patience` measured epochs in a row were no more than `min_delta` better than the best before
    them. What is not finite is no improvement.

    Args:
        epochs: epochs of a whole trial; it is never stopped at the last.
        min_epochs: epochs before it may be stopped.
        patience: measured epochs without an improvement.
        min_delta: how much better an epoch must be to count.
        maximize: whether larger is better.
    """

    epochs: int
    min_epochs: int
    patience: int
    min_delta: float
    maximize: bool

    def decide(self, history: History, number: int, epoch: int) -> Decision:
        """Count the epochs since the last improvement."""
        mine = history.curves.get(number, {})
        if not self.min_epochs <= epoch < self.epochs or epoch not in mine:
            return GO_ON
        best_at, best, waited = _last_improvement(mine, epoch, self.min_delta, self.maximize)
        if math.isfinite(best):
            margin = f" by more than {self.min_delta:g}" if self.min_delta else ""
            told = f"not better{margin} than at epoch {best_at} ({mine[best_at]:.4g})"
        else:
            told = "no number"
        reason = f"{told} at {waited} measured epochs, up to epoch {epoch}"
        return Decision(waited >= self.patience, reason)

    def rungs(self) -> list[int]:
        """Return every epoch at which a trial may be stopped."""
        return list(range(self.min_epochs, self.epochs))


@lru_cache(maxsize=16)
def _bracket_cycle(last: int, eta: int) -> tuple[int, ...]:
    """Return the brackets, 0 to the last, of the trials of a cycle, in order."""
    sizes = [-(-(last + 1) * eta**left // (left + 1)) for left in range(last, -1, -1)]
    counts, found = [0] * len(sizes), []
    for position in range(1, sum(sizes) + 1):
        behind = [size * position - sum(sizes) * count for size, count in zip(sizes, counts, strict=True)]
        bracket = behind.index(max(behind))
        counts[bracket] += 1
        found.append(bracket)
    return tuple(found)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value at a share (0 .. 1) of sorted finite values, on the line between its neighbours."""
    position = share * (len(values) - 1)
    left = min(int(position), len(values) - 1)
    low, high = values[left], values[min(left + 1, len(values) - 1)]
    between = (1.0 - (position - left)) * low + (position - left) * high
    # Rounding must not take it past values that are equal.
    return min(max(between, min(low, high)), max(low, high))


def _last_improvement(curve: Curve, epoch: int, min_delta: float, maximize: bool) -> tuple[int, float, int]:
    """Return the epoch of the last improvement (0: none), its score, and the measured epochs since."""
    best_at, best, waited = 0, -math.inf, 0
    for at in sorted(at for at in curve if at <= epoch):
        value = score(curve[at], maximize)
        if value > best + min_delta:
            best_at, best, waited = at, value, 0
        else:
            waited += 1
    return best_at, best, waited
