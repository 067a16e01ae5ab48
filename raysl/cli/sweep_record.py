"""`raysl sweep status | stop | export | replay`: what works on the record of a sweep that is there."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_common, emit, sayer
from raysl.errors import EXIT_FAILURE


def add_parser(commands: Any) -> None:
    """Add the commands to the parser."""
    _add(
        commands,
        "status",
        _status,
        "Say how a sweep stands: who drives it, its trials, the best so far, what it has used and what is "
        "left. Reads the record only, and may be asked while the sweep runs.",
    )
    stop = _add(
        commands,
        "stop",
        _stop,
        "Make the driver of a sweep stop as SIGTERM would, on this host or another: trials save at the next "
        "step, and the command that began the sweep continues it. Waits until it has stopped.",
    )
    stop.add_argument(
        "--wait", type=float, default=120.0, metavar="SECONDS", help="how long to wait (default: 120)"
    )
    export = _add(
        commands,
        "export",
        _export,
        "Write a sweep's trials and their curves as one table: a row for each epoch, one for a trial that "
        "ended without.",
    )
    export.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="ends in .parquet, .csv or .json"
    )
    _add(
        commands,
        "replay",
        _replay,
        "Compute every suggestion and every stopping decision again from what was on record before it, and "
        "compare bit for bit. Exit code 0 when all are equal, 1 when not.",
    )


def _add(
    commands: Any, verb: str, run: Callable[[argparse.Namespace], int], told: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(f"sweep {verb}", description=told)
    parser.add_argument("run", metavar="RUN", help="the sweep's directory")
    add_common(parser, run)
    return parser


def _status(args: argparse.Namespace) -> int:
    from raysl import api

    found = api.sweep_status(args.run)
    emit(args, asdict(found), found.describe())
    return 0


def _stop(args: argparse.Namespace) -> int:
    from raysl import api

    stopped = api.sweep_stop(args.run, wait_s=args.wait, say=sayer(args))
    emit(args, asdict(stopped), stopped.describe())
    return 0


def _export(args: argparse.Namespace) -> int:
    from raysl import api

    rows = api.sweep_export(args.run, args.output)
    emit(args, {"file": args.output, "rows": rows}, f"wrote {args.output}: {rows:,} rows")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from raysl import api

    found = api.sweep_replay(args.run)
    emit(args, asdict(found), found.describe())
    return EXIT_FAILURE if found.differences else 0
