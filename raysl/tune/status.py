"""How a sweep stands, from its record alone, while it runs or not."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from raysl.report.text import age
from raysl.tune.agenda import Answer, is_searched, propose
from raysl.tune.budget import Spent, spent
from raysl.tune.choice import Choice, choose, epoch_seconds
from raysl.tune.judging.rungs import form_signals, rung_signals
from raysl.tune.judging.signal import Correlation, Signal, describe_signals
from raysl.tune.records.entry import Entry, State
from raysl.tune.records.lease import read_holder
from raysl.tune.records.record import Record, read_record
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.view import name_of, number_text


@dataclass(frozen=True)
class RunningTrial:
    """A trial that has not ended.

    Args:
        number: the trial.
        name: what it is, for people.
        epoch: epochs on record.
        epochs: of the whole trial.
        epoch_s: seconds of its epochs, the median; None before the second.
        value: the metric that stopping compares, as it was last.
        attempts: how often it was started.
        silent_s: seconds since its last sign of life.
    """

    number: int
    name: str
    epoch: int
    epochs: int
    epoch_s: float | None
    value: float | None
    attempts: int
    silent_s: float | None

    def describe(self, metric: str) -> str:
        """Return it in one line for people."""
        parts = [f"{self.name}: epoch {self.epoch} of {self.epochs}"]
        if self.epoch_s is not None:
            parts.append(f"{self.epoch_s:.3g} s each")
        if self.value is not None:
            parts.append(f"{metric} {number_text(self.value)}")
        if self.silent_s is not None:
            parts.append(f"heard of {age(self.silent_s)} ago" if self.silent_s >= 1 else "heard of now")
        if self.attempts > 1:
            parts.append(f"attempt {self.attempts}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Left:
    """What a sweep has still to do.

    Args:
        trials: searched trials that have not begun.
        epochs: where new trials are stopped as the ended ones were; None where too few have ended to tell.
        epochs_worst: where nobody is stopped any more.
        seconds: for `epochs`, or else `epochs_worst`, at the pace so far; None where no pace is known.
    """

    trials: int
    epochs: int | None
    epochs_worst: int
    seconds: float | None

    def describe(self) -> str:
        """Return it in one line for people."""
        if not self.epochs_worst:
            return "left: nothing"
        worst = f"{self.epochs_worst} epochs at most"
        parts = [worst] if self.epochs is None else [f"about {self.epochs} epochs ({worst})"]
        if self.trials:
            parts.insert(0, f"{self.trials} trials to begin")
        if self.seconds is not None:
            parts.append(f"{'about ' if self.epochs is not None else 'up to '}{age(self.seconds)}")
        return f"left: {', '.join(parts)}"


@dataclass(frozen=True)
class Status:
    """How a sweep stands.

    Args:
        directory: the sweep's directory.
        state: `running`, `finished`, `budget` (a limit ended it) or `stopped`.
        driver: who drives it, or did until it died; empty where nobody.
        wanted: searched trials in all.
        searched: of them, those on record.
        states: trials by state, repeats and promotions included.
        causes: failed trials by cause.
        audited: numbers of trials that lost at a rung and ran on.
        running: trials that have not ended.
        metric: the first objective.
        judged: the metric that stopping compares.
        chosen: number of the trial that would be recommended now; None before one is complete.
        value: its objective, mean over its seeds.
        seeds: how many seeds it has.
        params: its parameters.
        equivalent: numbers of the trials that are as good within the noise.
        signals: what each rung says about the end, so far.
        forms: what each proxy says about the next form, so far.
        spent: what the sweep has used.
        budget: of each limit that is set, the share used.
        left: what it has still to do.
        sessions: starts of its driver.
    """

    directory: Path
    state: str
    driver: str
    wanted: int
    searched: int
    states: dict[str, int]
    causes: dict[str, int]
    audited: tuple[int, ...]
    running: tuple[RunningTrial, ...]
    metric: str
    judged: str
    chosen: int | None
    value: float | None
    seeds: int
    params: dict[str, Scalar]
    equivalent: tuple[int, ...]
    signals: tuple[Signal, ...]
    forms: tuple[Correlation, ...]
    spent: Spent
    budget: dict[str, float]
    left: Left
    sessions: int

    def describe(self) -> str:
        """Return it in a few lines for people."""
        by = f" ({self.driver})" if self.driver else ""
        states = ", ".join(f"{count} {state}" for state, count in self.states.items()) or "none yet"
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.items())
        lines = [
            f"{self.directory}: {self.state}{by}",
            f"trials: {self.searched} of {self.wanted} searched; in all {states}"
            + (f" (failed: {causes})" if causes else ""),
            *(trial.describe(self.judged) for trial in self.running),
        ]
        if self.chosen is not None:
            over = f", mean of {self.seeds} seeds" if self.seeds > 1 else ""
            same = [str(number) for number in self.equivalent if number != self.chosen]
            lines.append(
                f"best so far: trial {self.chosen}, {self.metric} {number_text(self.value)}{over}"
                + (f"; as good within the noise: {', '.join(same)}" if same else "")
            )
            lines.append("  " + ", ".join(f"{k} = {number_text(v)}" for k, v in self.params.items()))
        if self.audited:
            lines.append(f"audited, lost but run on: {', '.join(map(str, self.audited))}")
        known = [signal for signal in self.signals if signal.correlation.value is not None]
        lines += describe_signals(known, self.forms)
        lines.append(self.spent.describe())
        if self.budget:
            lines.append("budget: " + ", ".join(f"{s:.0%} of {name}" for name, s in self.budget.items()))
        return "\n".join([*lines, self.left.describe()])


def status(directory: str | Path, now: float | None = None) -> Status:
    """Return how a sweep stands; nothing is written, and it may go on meanwhile.

    Args:
        directory: the sweep's directory.
        now: Unix time.

    Raises:
        InputError: the directory holds no sweep, or nothing is on record.
    """
    root = Path(directory)
    # Before the record is read, so that a sweep that ends meanwhile is not called dead.
    holder = read_holder(root / "lease.json")
    record = read_record(root)
    now = time.time() if now is None else now
    alive = holder is not None and holder.alive
    driver = "" if holder is None else holder.describe() + ("" if holder.alive else ", which has died")
    return status_of(record, now if alive else None, driver, now)


def status_of(record: Record, alive_at: float | None, driver: str, now: float) -> Status:
    """Return how a record stands.

    Args:
        record: the sweep's record.
        alive_at: now, where its driver is alive.
        driver: who that is.
        now: Unix time.
    """
    trials, config = record.trials, record.space.config
    used = spent(trials, record.sessions, config.prices, alive_at)
    choice, left = choose(trials, config), _left(record)
    exhausted = used.exceeds(config.budget)
    state = "finished" if not left.epochs_worst else "stopped" if exhausted is None else "budget"
    count = Counter[State](entry.state for entry in trials)
    return Status(
        directory=record.directory,
        state="running" if alive_at is not None else state,
        driver=driver,
        wanted=config.trials,
        searched=sum(map(is_searched, trials)),
        states={name: count[name] for name in ("running", "complete", "pruned", "failed") if count[name]},
        causes=dict(Counter(entry.cause for entry in trials if entry.state == "failed")),
        audited=tuple(entry.number for entry in trials if entry.audited),
        running=tuple(_running(record, entry, now) for entry in trials if entry.state == "running"),
        metric=config.target.metric,
        judged=config.judged.metric,
        chosen=None if choice is None else choice.chosen.number,
        value=None if choice is None else choice.mean,
        seeds=0 if choice is None else len(choice.seeds),
        params={} if choice is None else choice.chosen.params,
        equivalent=() if choice is None else choice.equivalent,
        signals=rung_signals(config, record.space.base_of(0), record.space.epochs, trials),
        forms=form_signals(trials),
        spent=used,
        budget=_shares(used, config),
        left=left,
        sessions=len(record.sessions),
    )


def _running(record: Record, entry: Entry, now: float) -> RunningTrial:
    pace = epoch_seconds(entry)
    signs = [*entry.launches[-1:], *(report.time for report in entry.reports[-1:])]
    values = entry.curve
    return RunningTrial(
        number=entry.number,
        name=name_of(entry),
        epoch=entry.epoch,
        epochs=record.space.epochs_of(entry.role.fidelity),
        epoch_s=None if math.isnan(pace) else pace,
        value=values[max(values)] if values else None,
        attempts=entry.fence,
        silent_s=max(0.0, now - max(signs)) if signs else None,
    )


def _shares(used: Spent, config: SpaceConfig) -> dict[str, float]:
    """Return how much of each limit is used."""
    limits = {name: getattr(config.budget, name) for name in ("epochs", "hours", "gpu_hours", "money")}
    return {name: getattr(used, name) / limit for name, limit in limits.items() if limit is not None}


def _left(record: Record) -> Left:
    """Estimate what is left: epochs of trials that run, that are to begin, and that are run again."""
    trials, space = record.trials, record.space
    running = sum(
        space.epochs_of(entry.role.fidelity) - entry.epoch for entry in trials if entry.state == "running"
    )
    searched = [entry for entry in trials if is_searched(entry)]
    to_begin = max(0, space.config.trials - len(searched))
    # A grid may end before its trials do, and promotions and repeats with whatever has completed.
    may_be_over = not to_begin or space.config.sampler.name == "grid"
    if trials and not running and may_be_over and propose(space, trials) is Answer.NEVER:
        return Left(0, 0, 0, None)
    again = _again(record, choose(trials, space.config))
    worst = running + to_begin * space.epochs + again
    ended = [entry.epoch for entry in searched if entry.state != "running"]
    expected = None
    if len(ended) >= 3 or not to_begin:
        each = mean(ended) if ended else space.epochs
        expected = min(worst, round(running + to_begin * each + again))
    paces = [pace for entry in trials if not math.isnan(pace := epoch_seconds(entry))]
    slots = record.sessions[-1].slots if record.sessions else 1
    amount = worst if expected is None else expected
    # No more trials run at a time than there are.
    at_a_time = min(slots, max(1, to_begin + sum(entry.state == "running" for entry in trials)))
    seconds = amount * median(paces) / at_a_time if paces else None
    return Left(to_begin, expected, worst, seconds)


def _again(record: Record, choice: Choice | None) -> int:
    """Return the epochs of repeats and promotions that have not begun."""
    trials, space, config = record.trials, record.space, record.space.config
    epochs = 0
    first = sum(entry.role.kind == "repeat" and entry.role.of == 0 for entry in trials)
    if config.priors:
        epochs += max(0, config.noise.seeds - 1 - first) * space.epochs
    for number, proxy in enumerate(config.proxy, start=1):
        done = sum(entry.role.kind == "promotion" and entry.role.fidelity == number for entry in trials)
        possible = min(proxy.promote, config.trials)
        epochs += max(0, possible - done) * space.epochs_of(number)
    chosen = None if choice is None else choice.chosen
    repeated = sum(
        entry.role.kind == "repeat" and entry.role.of == chosen.number for entry in trials
        if chosen is not None and chosen.role.fidelity == space.last_fidelity
    )  # fmt: skip
    wanted = (config.noise.best_seeds or config.noise.seeds) - 1
    searched = [entry for entry in trials if is_searched(entry)]
    settled = len(searched) >= config.trials and not any(entry.state == "running" for entry in searched)
    if settled and chosen is not None and chosen.number == 0:
        # The seeds that the first configuration is run with anyway are those of the chosen one.
        repeated = max(repeated, config.noise.seeds - 1)
    return epochs + max(0, wanted - repeated) * space.epochs_of(space.last_fidelity)
