"""`raysl verify`: a method against its authors' code, any number of workers, and bf16."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit, sayer, words
from raysl.errors import EXIT_FAILURE


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "verify",
        help="certify a method: against stored vectors, worker counts and bf16",
        description="Check a method against vectors that its authors' own code made (value and gradient), "
        "against one worker when run on several, and against float32 when run in bf16. Exit code 1 when "
        "something is off. Overrides change the run that is compared: the method's digits recipe, on "
        "generated images.",
        epilog="examples: raysl verify matrix_ssl\n"
        "          raysl verify all --workers 1 2 4\n"
        "          raysl verify ./my_loss.py:MyMethod method.temperature=0.2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="+", metavar="METHOD|key=value", help="methods by name or file:class, or all"
    )
    parser.add_argument(
        "--workers",
        nargs="+",
        type=int,
        default=[1, 2, 4],
        metavar="N",
        help="numbers of workers, each compared with one (default: 1 2 4)",
    )
    parser.add_argument(
        "--vectors",
        metavar="DIR",
        help="reference vectors: a folder with INDEX.json (default: those that ship with raysl)",
    )
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    given = words(args)
    found = api.verify(
        *given.sources,
        overrides=given.overrides,
        workers=args.workers,
        vectors=args.vectors,
        say=sayer(args) if args.json else api.silent,
    )
    emit(args, found.to_dict(), found.to_text())
    return 0 if found.passed else EXIT_FAILURE
