"""`raysl sweep`: search a method's hyperparameters."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_job, emit, emit_plan, job, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sweep",
        help="search hyperparameters with Ray Tune and Optuna, with early stopping",
        description="Search a method's hyperparameters. Overrides set keys of the space (trials=32, "
        "concurrent=4) or of the runs it makes (data.source=PATH, train.epochs=20). The same "
        "command continues a sweep.",
        epilog="examples: raysl sweep matrix_ssl trials=16\n"
        "          raysl sweep simclr base=[cifar10/small] data.source=path/to/cifar10",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="SPACE|key=value", help="a search space, and overrides")
    add_job(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, asked = words(args).sources, job(args)
    if len(sources) != 1:
        raise InputError("raysl sweep takes one search space: a name (raysl config list) or a YAML file")
    if args.dry_run:
        return emit_plan(args, api.plan_sweep(sources[0], asked))
    result = api.sweep(sources[0], **vars(asked))
    emit(args, asdict(result), result.describe())
    return 0
