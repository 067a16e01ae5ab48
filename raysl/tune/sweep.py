"""A sweep from its space to its winner; the same call continues one that was cut off."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.errors import Interrupted, RayslError
from raysl.train.interrupts import stop_on_signals
from raysl.tune.agenda import Answer, propose
from raysl.tune.bridge import Bridge
from raysl.tune.budget import Spent, spent
from raysl.tune.choice import choose, pareto_front
from raysl.tune.control import StopFile
from raysl.tune.judging.rungs import form_signals, rule_of, rung_signals
from raysl.tune.judging.signal import Correlation, Signal, describe_signals
from raysl.tune.planning.plan import SweepPlan, plan_sweep
from raysl.tune.records.entry import Entry, Session
from raysl.tune.records.folder import changeable, check_directory, claim_directory
from raysl.tune.records.lease import Lease
from raysl.tune.records.ledger import Ledger
from raysl.tune.records.outputs import write_best, write_hparams, write_trials
from raysl.tune.spaces.domains import Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.trials import engine
from raysl.tune.trials.gang import Gang, living_nodes
from raysl.tune.view import SweepView, number_text, summary


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Args:
        directory: its directory.
        metric: the first objective.
        best_trial: number of the chosen trial: the cheapest that is as good as any, as far as can be told.
        best_value: its objective at its last epoch, mean over its seeds.
        best_params: its parameters.
        best_run: its run directory.
        best_config: its whole config as a file, for `raysl pretrain`.
        seed_values: its objective with each seed.
        deviation: standard deviation between seeds of the first configuration; None if not measured.
        equivalent: numbers of the trials that are as good as any, within the noise.
        highest_trial: number of the trial with the best single value.
        highest_value: that value; the best of many is partly luck.
        front: with several objectives, numbers of the trials that no other beats in all of them.
        states: trials by state.
        causes: failed trials by cause.
        signals: what each rung says about the end.
        forms: how each proxy ranks its best, beside the next form.
        spent: what it used.
        exhausted: which limit of its budget ended it, or None.
    """

    directory: Path
    metric: str
    best_trial: int
    best_value: float
    best_params: dict[str, Scalar]
    best_run: Path
    best_config: Path
    seed_values: tuple[float, ...]
    deviation: float | None
    equivalent: tuple[int, ...]
    highest_trial: int
    highest_value: float
    front: tuple[int, ...]
    states: dict[str, int]
    causes: dict[str, int]
    signals: tuple[Signal, ...]
    forms: tuple[Correlation, ...]
    spent: Spent
    exhausted: str | None

    def describe(self) -> str:
        """Return the result in a few lines for people."""
        params = ", ".join(f"{key} = {number_text(value)}" for key, value in self.best_params.items())
        states = ", ".join(f"{count} {state}" for state, count in self.states.items())
        if self.causes:
            states += f" ({', '.join(f'{count} {cause}' for cause, count in self.causes.items())})"
        lines = [states]
        if self.exhausted is not None:
            lines.append(f"{self.exhausted}: raise it to go on (raysl sweep extend)")
        seeds = len(self.seed_values)
        over = f", mean of {seeds} seeds" if seeds > 1 else ""
        lines.append(f"best: trial {self.best_trial}, {self.metric} = {self.best_value:.6g}{over} ({params})")
        if self.deviation is not None:
            names = ", ".join(map(str, self.equivalent))
            lines.append(
                f"as good within the noise (seeds differ by {self.deviation:.3g}): trials {names}; "
                f"highest single value {self.highest_value:.6g} (trial {self.highest_trial})"
            )
        if len(self.front) > 1:
            lines.append(f"no other is better in every objective: trials {', '.join(map(str, self.front))}")
        lines += describe_signals(self.signals, self.forms)
        return "\n".join([*lines, self.spent.describe(), f"next: raysl pretrain {self.best_config}"])


def sweep(
    config: SpaceConfig,
    directory: str | Path,
    *,
    say: Callable[[str], None] = print,
    loop: Callable[..., Iterator[Any]] | None = None,
) -> SweepResult:
    """Run a sweep, or continue the one in this directory. A Ray must be connected.

    Args:
        config: the search space.
        directory: the sweep's directory.
        say: told the lines for people.
        loop: another training loop than `raysl.train.loop.epochs`; for tests.

    Raises:
        InputError: the space, the data or the directory cannot be used, or another driver runs this sweep.
        Interrupted: a signal came; the same call continues.
        RayslError: no trial completed.
    """
    root = Path(directory)
    plan = plan_sweep(config)
    check_directory(root, plan.space)
    lease = Lease(root / "lease.json")
    lease.take()
    stop_file = StopFile(root, lease.token)
    try:
        stop_file.remove_stale()
        # Again, because another driver may have come and gone since.
        check_directory(root, plan.space)
        study = claim_directory(root, plan.space)
        ledger = Ledger(config.ledger or root / "study.log", study, plan.space, lease)
        for line in plan.lines:
            say(line)
        exhausted = _run(plan, root, ledger, stop_file, say, loop)
        write_trials(root, ledger.trials, choose(ledger.trials, config))
        write_hparams(root, ledger.trials)
        return _result(root, plan.space, ledger, exhausted)
    finally:
        stop_file.remove()
        lease.release()


def _run(
    plan: SweepPlan,
    root: Path,
    ledger: Ledger,
    stop_file: StopFile,
    say: Callable[[str], None],
    loop: Callable[..., Iterator[Any]] | None,
) -> str | None:
    """Run what is left, and return which limit of the budget ended it, if one did."""
    space, config = plan.space, plan.space.config
    if ledger.trials:
        say(f"continuing {root}: {summary(ledger.trials, config)}")
    if not ledger.running() and propose(space, ledger.trials) is Answer.NEVER:
        return None
    nodes = living_nodes()
    gang = Gang.of(space.base, nodes)
    slots = min(gang.slots(nodes), config.concurrent or config.trials, config.trials)
    say(gang.describe(slots))
    cpus, gpus = gang.workers * gang.cpus, gang.workers * gang.gpus
    ledger.open_session(Session(time.time(), slots, cpus, gpus, changeable(config)))
    rule = rule_of(config, space.epochs)
    with SweepView(space, ledger.trials, say) as view, stop_on_signals() as asked:

        def changed(ended: Entry | None) -> None:
            view.update(ended)
            if ended is not None:
                write_trials(root, ledger.trials, choose(ledger.trials, config))

        bridge = Bridge(
            ledger,
            space,
            rule,
            root,
            slots,
            threads=max(1, int(gang.cpus)),
            changed=changed,
            stopped=lambda: asked() or stop_file(),
        )
        engine.run(bridge, gang, plan.data, loop)
    if bridge.fatal is not None:
        raise (
            bridge.fatal if isinstance(bridge.fatal, RayslError) else RayslError(f"{bridge.fatal!r}")
        ) from bridge.fatal
    if bridge.exhausted is not None:
        say(f"{bridge.exhausted}: trials have saved and stopped")
    elif ledger.running() or propose(space, ledger.trials) is not Answer.NEVER:
        raise Interrupted(f"{summary(ledger.trials, config)}; the same command continues")
    return bridge.exhausted


def _result(root: Path, space: Space, ledger: Ledger, exhausted: str | None) -> SweepResult:
    trials, config = ledger.trials, space.config
    choice = choose(trials, config)
    if choice is None or choice.best.value is None:
        first = next((entry.reason for entry in trials if entry.reason), exhausted or "")
        raise RayslError(
            f"{root}: no trial completed ({summary(trials, config)}); the first ended because: {first}"
        )
    chosen = choice.chosen
    return SweepResult(
        directory=root,
        metric=config.target.metric,
        best_trial=chosen.number,
        best_value=choice.mean,
        best_params=chosen.params,
        best_run=root / "trials" / str(chosen.number),
        best_config=write_best(root, space, choice, trials),
        seed_values=choice.seeds,
        deviation=choice.deviation,
        equivalent=choice.equivalent,
        highest_trial=choice.best.number,
        highest_value=choice.best.value,
        front=tuple(pareto_front(trials, config)) if len(config.objective) > 1 else (),
        states=dict(Counter(entry.state for entry in trials)),
        causes=dict(Counter(entry.cause for entry in trials if entry.state == "failed")),
        signals=rung_signals(config, space.base_of(0), space.epochs, trials),
        forms=form_signals(trials),
        spent=spent(trials, ledger.sessions, config.prices),
        exhausted=exhausted,
    )
