"""`raysl pretrain`: train one encoder, here or on many workers."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_job, emit, emit_plan, job, words


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "pretrain",
        help="train one encoder, in this process or on Ray Train workers",
        description="Train one encoder. Sources (YAML files, recipe names) are merged left to right, "
        "then the overrides. The same command continues a run that was interrupted.",
        epilog="examples: raysl pretrain digits/matrix_ssl\n"
        "          raysl pretrain runs/matrix_ssl/best.yaml train.epochs=200 launch.workers=8 --name winner",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="RECIPE|FILE|key=value", help="sources and overrides")
    add_job(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, asked = words(args).sources, job(args)
    if args.dry_run:
        return emit_plan(args, api.plan_pretrain(sources, asked))
    result = api.pretrain(*sources, **vars(asked))
    text = f"{result.epochs} epochs done: {result.run}\nnext: raysl evaluate {result.run}"
    emit(args, asdict(result), text)
    return 0
