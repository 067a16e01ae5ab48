"""Sweeps without training: true curves, reported in some order to a stopping rule."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysl.tune.judging.stopping import Decision, History, Rule, build_rule
from raysl.tune.spaces.stopping_config import StoppingConfig

EPOCHS = 9
SETTINGS: dict[str, dict[str, Any]] = {
    "successive_halving": {"reduction_factor": 3},
    "hyperband": {"reduction_factor": 2},
    "median": {"min_trials": 2},
    "percentile": {"min_trials": 2, "percentile": 25},
    "patience": {"patience": 2, "min_delta": 0.01},
    "none": {},
}
"""Every rule, with settings that make it stop soon."""
RANKED = ["successive_halving", "hyperband", "median", "percentile"]
"""The rules that compare trials with each other."""
NO_AUDIT = {"share": 0.0, "least": 0}


def build(rule: str, *, maximize: bool = True, **changes: Any) -> Rule:
    """Return a rule over nine epochs that may stop from the first on."""
    values = {"rule": rule, "min_epochs": 1, **SETTINGS[rule], **changes}
    return build_rule(StoppingConfig.model_validate(values), EPOCHS, maximize)


def random_curves(seed: int, trials: int) -> dict[int, dict[int, float]]:
    """Return whole curves that rise to levels of their own, with some noise."""
    draw = random.Random(seed)
    levels = [draw.random() for _ in range(trials)]
    return {
        number: {epoch: level * epoch / EPOCHS + draw.gauss(0, 0.05) for epoch in range(1, EPOCHS + 1)}
        for number, level in enumerate(levels)
    }


def negated(history: History) -> History:
    """Return the same sweep with a metric of which less is better."""
    curves = {number: {at: -value for at, value in curve.items()} for number, curve in history.curves.items()}
    return History(curves, history.complete, history.audited, history.stopped)


def reordered(history: History) -> History:
    """Return the same sweep with its trials and epochs put on record in another order."""
    curves = {
        number: dict(reversed(list(history.curves[number].items())))
        for number in reversed(list(history.curves))
    }
    audited = dict(reversed(list(history.audited.items())))
    return History(curves, history.complete, audited, history.stopped)


def restored(history: History) -> History:
    """Return the sweep as it is read from disk after a crash."""
    text = json.dumps(
        {
            "curves": {
                str(n): {str(at): value for at, value in c.items()} for n, c in history.curves.items()
            },
            "complete": sorted(history.complete),
            "audited": {str(number): epoch for number, epoch in history.audited.items()},
            "stopped": sorted(history.stopped),
        },
        sort_keys=True,
    )
    read = json.loads(text)
    return History(
        {int(n): {int(at): value for at, value in c.items()} for n, c in read["curves"].items()},
        frozenset(read["complete"]),
        {int(number): epoch for number, epoch in read["audited"].items()},
        frozenset(read["stopped"]),
    )


@dataclass
class Sweep:
    """A sweep under way: asks the rule at each report and does what it says."""

    rule: Rule
    curves: dict[int, dict[int, float]] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    audited: dict[int, int] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)
    decisions: list[tuple[int, int, Decision]] = field(default_factory=list)

    def history(self) -> History:
        """Return a copy of what is on record."""
        curves = {number: dict(curve) for number, curve in self.curves.items()}
        return History(curves, frozenset(self.complete), dict(self.audited), frozenset(self.stopped))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Put a report on record and return whether the trial goes on."""
        self.curves.setdefault(number, {})[epoch] = value
        if epoch == EPOCHS:
            self.complete.add(number)
            return False
        decision = self.rule.decide(self.history(), number, epoch)
        self.decisions.append((number, epoch, decision))
        if decision.audit:
            self.audited[number] = epoch
        if decision.stop:
            self.stopped.add(number)
        return not decision.stop


def run(rule: Rule, truth: Mapping[int, Mapping[int, float]], *, slots: int = 3, seed: int = 0) -> Sweep:
    """Run a sweep, a few trials at a time, of which a random one reports next."""
    draw, sweep = random.Random(seed), Sweep(rule)
    waiting, running = sorted(truth, reverse=True), dict[int, int]()
    while waiting or running:
        while waiting and len(running) < slots:
            running[waiting.pop()] = 0
        number = draw.choice(sorted(running))
        running[number] += 1
        if not sweep.report(number, running[number], truth[number][running[number]]):
            del running[number]
    return sweep
