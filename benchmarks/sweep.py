"""Sweeps: gaps, crashes, overhead, and what they find for what they spend.

    python -m benchmarks.sweep gaps     SPACE key=value... --runs DIR --kills 5
    python -m benchmarks.sweep kills    SPACE key=value... --runs DIR --kills 20 [--equal]
    python -m benchmarks.sweep overhead
    python -m benchmarks.sweep replay   [TABLE...] --seeds 20
    python -m benchmarks.sweep clock    --runs DIR

`gaps` measures the time from a trial's end to its successor's first optimizer step, after trials that
completed, were pruned, diverged (put a learning rate of 1e30 among the choices) or whose process was killed.
`kills` sends SIGKILL to the driver at random moments, each after new progress, runs the same command again,
checks the ledger and replays it; with `--equal` it also runs the sweep undisturbed and compares the ledgers
(give `deterministic=true concurrent=2`).
`overhead` measures what the sweep costs beside its trials.
`replay` counts the epochs to a good configuration on recorded curves, against random search and Ray's own.
`clock` compares the simulated with the real wall time of a sweep.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from benchmarks.sweep_clock import clock
from benchmarks.sweep_driver import Driver, gaps, kills
from benchmarks.sweep_overhead import overhead
from benchmarks.sweep_replay import TABLES, compare


def main() -> int:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["gaps", "kills", "overhead", "replay", "clock"])
    parser.add_argument("words", nargs="*", help="as for raysl sweep; for replay, names of tables")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--equal", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--min-epochs", type=int, default=3)
    args = parser.parse_args()
    match args.what:
        case "overhead":
            return overhead()
        case "replay":
            return compare(args.words or TABLES, args.seeds, args.min_epochs, 3)
        case "clock":
            return clock(args.runs)
        case "gaps":
            return gaps(Driver(args.words, args.runs, "gaps"), args.kills)
    undisturbed = Driver(args.words, args.runs, "undisturbed") if args.equal else None
    return kills(Driver(args.words, args.runs, "kills"), args.kills, random.Random(args.seed), undisturbed)


if __name__ == "__main__":
    raise SystemExit(main())
