"""Made-up tables of curves for simulated sweeps: quick, and as crooked as one likes."""

from __future__ import annotations

import math
import random
from typing import Any

from raysl.tune.simulation.curves import Curves, Recorded
from raysl.tune.simulation.simulate import Simulated, simulate
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space

KNN = "eval/knn_top1"
EPOCHS = 9


def table(count: int = 60, pace: int = 0) -> Curves:
    """Return recorded trials over lr and temperature, best at lr 0.01; `pace` changes their times alone."""
    draw, times = random.Random(0), random.Random(pace)
    trials = []
    for number in range(count):
        lr, temperature = 10 ** draw.uniform(-4, -1), draw.uniform(0.1, 1.0)
        end = 90 - 8 * (math.log10(lr) + 2) ** 2 - 5 * (temperature - 0.3) ** 2 + draw.gauss(0, 0.5)
        metrics = [
            {KNN: end - 30 * math.exp(-epoch / 3) + draw.gauss(0, 0.3), "train/loss": 1.0 / epoch}
            for epoch in range(1, EPOCHS + 1)
        ]
        params = {"optimizer.lr": lr, "method.temperature": temperature}
        trials.append(Recorded(number, params, metrics, [times.uniform(0.5, 2.0)] * EPOCHS))
    return Curves(trials)


def built(**changes: Any) -> Space:
    """Return a space to simulate."""
    stopping = {"rule": "successive_halving", "min_epochs": 1}
    return Space(space(**{"epochs": EPOCHS, "trials": 24, "stopping": stopping} | changes))


def simulated(slots: int = 3, pace: int = 0, **changes: Any) -> Simulated:
    """Run a sweep over the made-up table."""
    return simulate(built(**changes), table(pace=pace), slots)
