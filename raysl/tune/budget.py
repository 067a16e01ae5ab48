"""What a sweep has used, and whether that is all it may: counted from its record alone.

Every session of the driver holds `slots` gangs from its start to its last fact, whether they train or wait.
Attempts take part of that time: useful where their trial completed (or runs still), else pruned, failed, or
lost with a process that died. What is left was idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raysl.tune.records.entry import Entry, Session
from raysl.tune.spaces.space import BudgetConfig, PricesConfig

_HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """What has been used so far.

    Args:
        epochs: on record.
        hours: wall-clock hours of all sessions.
        gpu_hours: GPUs held, times hours.
        cpu_hours: CPUs held, times hours.
        money: by the prices.
        shares: of the held time, how much went into `useful`, `pruned`, `failed` and `lost` attempts, and how
            much was `idle`; they add up to 1 where any time was held.
        currency: of the money.
    """

    epochs: int
    hours: float
    gpu_hours: float
    cpu_hours: float
    money: float
    shares: dict[str, float]
    currency: str = "USD"

    def describe(self) -> str:
        """Return it in one line for people."""
        parts = [f"{self.epochs} epochs", f"{self.hours:.3g} h", f"{self.cpu_hours:.3g} CPU hours"]
        if self.gpu_hours:
            parts.append(f"{self.gpu_hours:.3g} GPU hours")
        if self.money:
            parts.append(f"{self.money:.2f} {self.currency}")
        shares = ", ".join(f"{share:.0%} {kind}" for kind, share in self.shares.items() if share >= 0.005)
        return f"used: {', '.join(parts)}" + (f" ({shares})" if shares else "")

    def exceeds(self, budget: BudgetConfig) -> str | None:
        """Return which limit is reached, for people, or None."""
        for name, used in (
            ("epochs", self.epochs), ("hours", self.hours),
            ("gpu_hours", self.gpu_hours), ("money", self.money),
        ):  # fmt: skip
            limit = getattr(budget, name)
            if limit is not None and used >= limit:
                return f"budget.{name} = {limit:g} is used up ({used:.4g})"
        return None


def spent(
    trials: Sequence[Entry], sessions: Sequence[Session], prices: PricesConfig, now: float | None = None
) -> Spent:
    """Count what a sweep has used.

    Args:
        trials: its record.
        sessions: the starts of its driver, in order.
        prices: of an hour.
        now: Unix time, while the last session goes on; None once it is over.
    """
    ends = [_end(session, following, trials, now) for session, following in _pairs(sessions)]
    lengths = [max(0.0, end - session.started) for session, end in zip(sessions, ends, strict=True)]
    held = [length * session.slots for session, length in zip(sessions, lengths, strict=True)]
    gpu_hours = sum(h * session.gpus for h, session in zip(held, sessions, strict=True)) / _HOUR
    cpu_hours = sum(h * session.cpus for h, session in zip(held, sessions, strict=True)) / _HOUR
    spans = list(zip((session.started for session in sessions), ends, strict=True))
    shares = dict.fromkeys(("useful", "pruned", "failed", "lost"), 0.0)
    for entry in trials:
        for kind, begin, end in _attempts(entry, spans):
            shares[kind] += max(0.0, end - begin)
    total = sum(held)
    if total > 0:
        busy = sum(shares.values())
        # Clocks of several hosts can make the parts a little more than the whole.
        shares = {kind: seconds / max(total, busy) for kind, seconds in shares.items()}
        shares["idle"] = 1.0 - sum(shares.values())
    return Spent(
        epochs=sum(entry.epoch for entry in trials),
        hours=sum(lengths) / _HOUR,
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        money=gpu_hours * prices.gpu_hour + cpu_hours * prices.cpu_hour,
        shares=shares if total > 0 else {},
        currency=prices.currency,
    )


def _pairs(sessions: Sequence[Session]) -> Iterator[tuple[Session, float | None]]:
    for number, session in enumerate(sessions):
        yield session, sessions[number + 1].started if number + 1 < len(sessions) else None


def _end(session: Session, following: float | None, trials: Sequence[Entry], now: float | None) -> float:
    """Return when a session ended: now, or with the last that is known of it."""
    if following is None and now is not None:
        return now
    before = [
        time for entry in trials for time in _times(entry)
        if time >= session.started and (following is None or time < following)
    ]  # fmt: skip
    return max(before, default=session.started)


def _times(entry: Entry) -> Iterator[float]:
    yield from entry.launches
    yield from (report.time for report in entry.reports)
    yield from (death.time for death in entry.deaths)
    if entry.ended is not None:
        yield entry.ended


def _attempts(entry: Entry, spans: Sequence[tuple[float, float]]) -> Iterator[tuple[str, float, float]]:
    """Yield what became of each attempt, when it began and when it ended."""
    outcome = {"pruned": "pruned", "failed": "failed"}.get(entry.state, "useful")
    deaths = {death.fence: death.time for death in entry.deaths}
    for fence, begin in enumerate(entry.launches, start=1):
        session_end = next((end for start, end in reversed(spans) if start <= begin), begin)
        # What an earlier attempt had recorded and this one only passed on is no time of this one's.
        last = [max(begin, report.time) for report in entry.reports if report.fence == fence]
        if fence in deaths:
            # Only what it had recorded is not done again.
            recorded = last[-1] if last else begin
            yield outcome, begin, recorded
            yield "lost", recorded, deaths[fence]
        elif fence < len(entry.launches) or entry.ended is None:
            yield (
                outcome,
                begin,
                min(session_end, last[-1]) if fence < len(entry.launches) and last else session_end,
            )
        else:
            yield outcome, begin, entry.ended
