"""`raysl compare`: what differs between runs, and how they ended."""

from __future__ import annotations

import argparse
from pathlib import Path
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
    from raysl.report.compare import compare
    from raysl.report.curves import draw_curves

    comparison = compare(args.run)
    picture = draw_curves(comparison, Path(args.output))
    emit(
        args, {**comparison.to_dict(), "picture": str(picture)}, f"{comparison.to_text()}\ncurves: {picture}"
    )
    return 0
