"""`raysl compare`: what differs between runs, and how they ended."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="one table of runs, and a picture of their curves",
        description="Print the settings in which runs differ and their metrics, and draw their curves. "
        "A sweep stands for its trials.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run or sweep directories")
    parser.add_argument("-o", "--output", default="compare.png", help="the picture (default: compare.png)")
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    comparison = api.compare(args.run, args.output)
    values = {**comparison.to_dict(), "picture": args.output}
    emit(args, values, f"{comparison.to_text()}\ncurves: {args.output}")
    return 0
