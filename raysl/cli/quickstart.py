"""`raysl quickstart`: search, pretrain and judge on digits, in a few minutes and without a download."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_job, emit, emit_plan, job, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "quickstart",
        help="see it work: search, pretrain and judge on scikit-learn's digits, in a few minutes",
        description="Sweep Matrix-SSL's mu, gamma and learning rate with early stopping, pretrain the "
        "winner for longer on 2 workers, and judge it beside raw pixels and the same encoder untrained. "
        "Needs no download and no GPU.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="overrides of the sweep, such as trials=4"
    )
    add_job(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl.quickstart import plan_quickstart, quickstart

    sources, asked = words(args).sources, job(args)
    if sources:
        raise InputError(f"raysl quickstart takes key=value overrides only, not {sources[0]!r}")
    if args.dry_run:
        return emit_plan(args, plan_quickstart(asked))
    result = quickstart(**vars(asked))
    emit(args, result.to_dict(), result.describe())
    return 0
