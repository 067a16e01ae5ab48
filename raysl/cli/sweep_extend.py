"""`raysl sweep extend | repeat-best`: change what may change of a sweep, and go on with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_common, add_ray, emit, sayer, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the commands to the parser."""
    extend = commands.add_parser(
        "sweep extend",
        description="Change what may change within a sweep, and go on with it: trials, concurrent, budget.*, "
        "prices.*, noise.best_seeds, attempts, warm_spare, description.",
        epilog="examples: raysl sweep extend runs/w_mse trials=80\n"
        "          raysl sweep extend runs/w_mse budget.hours=12 budget.epochs=null",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    extend.add_argument(
        "words", nargs="*", metavar="RUN|key=value", help="the sweep's directory, and changes"
    )
    _add_options(extend, _extend)
    repeat = commands.add_parser(
        "sweep repeat-best",
        description="Run the configuration that a sweep has chosen with more seeds, and put the mean into "
        "best.yaml: raysl sweep extend RUN noise.best_seeds=N. A sweep that is not finished "
        "is finished first.",
    )
    repeat.add_argument("run", metavar="RUN", help="the sweep's directory")
    repeat.add_argument(
        "--seeds", type=int, required=True, metavar="N", help="seeds in all, the trial's own included"
    )
    _add_options(repeat, _repeat)


def _add_options(parser: argparse.ArgumentParser, run: Any) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would change, start nothing")
    add_ray(parser)
    add_common(parser, run)


def _extend(args: argparse.Namespace) -> int:
    sources, overrides = words(args)
    if len(sources) != 1:
        raise InputError("raysl sweep extend takes one directory of a sweep, and key=value")
    return _go_on(args, sources[0], overrides)


def _repeat(args: argparse.Namespace) -> int:
    if args.seeds < 1:
        raise InputError(f"--seeds {args.seeds}: expected 1 or more")
    return _go_on(args, args.run, [f"noise.best_seeds={args.seeds}"])


def _go_on(args: argparse.Namespace, run: str, overrides: Sequence[str]) -> int:
    from raysl import api

    if args.dry_run:
        plan = api.plan_sweep_extend(run, overrides)
        emit(args, {"run": run, "changes": plan.changes}, plan.describe())
        return 0
    result = api.sweep_extend(run, overrides=overrides, cluster=args.cluster, say=sayer(args))
    emit(args, asdict(result), result.describe())
    return 0
