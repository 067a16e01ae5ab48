"""`raysl ls`: the runs there are."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("ls", help="list runs and sweeps")
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    listing = api.ls(args.runs)
    emit(args, listing.to_dict(), listing.to_text())
    return 0
