"""`raysl show`: all about one run."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "show", help="show a run or sweep: state, metrics, evaluations, what to do next"
    )
    parser.add_argument("run", metavar="RUN", help="a run or sweep directory")
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    detail = api.show(args.run)
    emit(args, detail.to_dict(), detail.to_text())
    return 0
