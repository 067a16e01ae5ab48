"""`raysl new method`: begin a method of one's own."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("new", help="write a method of your own, with its recipe, space and test")
    kinds = parser.add_subparsers(metavar="method", required=True)
    method = kinds.add_parser(
        "method",
        help="write NAME.py, digits_NAME.yaml, NAME_space.yaml and test_NAME.py",
        description="Write a small complete method to change into yours: NAME.py, a recipe, a search space "
        "and a test, all of which work as written. Nothing is overwritten. docs/EXTENDING.md is the walk.",
    )
    method.add_argument("name", metavar="NAME", help="a Python name in lower case, such as my_loss")
    method.add_argument("--to", default=".", metavar="DIR", help="folder to write into (default: here)")
    add_common(method, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    written = api.new_method(args.name, args.to)
    values = {"class": written.class_name, "files": [str(file) for file in written.files]}
    emit(args, values, written.describe())
    return 0
