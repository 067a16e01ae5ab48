"""Simulated against real wall time: a sweep with early stopping, run, and simulated from its twin without."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from raysl.cluster.connect import connect
from raysl.tune.records.export import export_table, write_table
from raysl.tune.records.record import read_record
from raysl.tune.simulation.curves import read_curves
from raysl.tune.simulation.simulate import simulate
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.spaces.space_file import load_space
from raysl.tune.sweep import sweep

_TRIALS, _SLOTS, _EPOCHS = 40, 2, 27


def clock(runs: Path) -> int:
    """Record trials without stopping, run them again with it, simulate that, and compare; 1 where over 15 %.

    Random search suggests the same configurations in both, so that the table has each of them.
    """
    values: dict[str, Any] = load_space("matrix_ssl").to_dict() | {
        "sampler": {"name": "random", "seed": 1}, "noise": {"seeds": 1}, "priors": [],
        "epochs": _EPOCHS, "trials": _TRIALS, "concurrent": _SLOTS, "warm_spare": False,
    }  # fmt: skip
    whole = SpaceConfig.model_validate(values | {"stopping": {"rule": "none"}})
    stopped = SpaceConfig.model_validate(
        values | {"stopping": {"rule": "successive_halving", "min_epochs": 1}}
    )
    with connect("local") as ray:
        print(ray.describe())
        sweep(whole, runs / "whole", say=lambda line: None)
        begun = time.monotonic()
        sweep(stopped, runs / "stopped", say=lambda line: None)
        print(f"the command as a whole: {time.monotonic() - begun:.1f} s")
    write_table(export_table(read_record(runs / "whole")), runs / "whole.parquet")
    record = read_record(runs / "stopped")
    first = min(entry.launches[0] for entry in record.trials)
    # What a process needs to start and import is not part of the recorded trials.
    first_report = min(entry.reports[0].time for entry in record.trials if entry.reports)
    real = max(entry.ended or 0.0 for entry in record.trials) - first
    simulated = simulate(Space(stopped), read_curves(runs / "whole.parquet"), _SLOTS)
    same = sum(
        left.state == right.state and left.epoch == right.epoch
        for left, right in zip(record.trials, simulated.trials, strict=True)
    )
    print(f"real {real:.1f} s (first report after {first_report - first:.1f} s)")
    print(f"simulated {simulated.wall_s:.1f} s: {simulated.wall_s / real - 1:+.1%}")
    print(f"trials with the same end: {same} of {_TRIALS}")
    return 1 if abs(simulated.wall_s / real - 1) > 0.15 else 0
