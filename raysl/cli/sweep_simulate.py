"""`raysl sweep simulate`: a sweep over recorded curves."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_common, emit, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sweep simulate",
        description="Run a sweep over recorded curves in place of training: the real sampler and stopping "
        "rule, on a clock of its own. The recorded trial that is nearest to a suggestion answers for it.",
        epilog="example: raysl sweep simulate my.yaml --curves w_mse.parquet --seeds 10 sampler.name=gp",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="SPACE|key=value", help="a search space, and overrides")
    parser.add_argument(
        "--curves",
        required=True,
        metavar="FILE",
        help="a table of raysl sweep export, of trials that all ran to their end",
    )
    parser.add_argument(
        "--slots", type=int, metavar="N", help="trials at a time (default: the space's concurrent, else 1)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="K", help="sweeps, with sampler seeds 0 .. K-1 (default: 1)"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=0.5,
        metavar="X",
        help="how near to the best on record counts as found (default: 0.5)",
    )
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, overrides = words(args)
    if len(sources) != 1:
        raise InputError("raysl sweep simulate takes one search space: a name or a YAML file")
    found = api.sweep_simulate(
        sources[0],
        args.curves,
        overrides=overrides,
        slots=args.slots,
        seeds=args.seeds,
        within=args.within,
    )
    emit(args, asdict(found) | {"median": asdict(found.median)}, found.describe())
    return 0
