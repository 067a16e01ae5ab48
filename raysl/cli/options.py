"""What commands share: options, words on the command line, and where output goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from raysl.api import Job


class Words(NamedTuple):
    """The words of a command line, told apart by their `=`."""

    sources: list[str]
    overrides: list[str]


def add_common(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Add the options of every command, and the function that runs it."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON; messages go to stderr")
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="folder of run directories (default: runs)"
    )
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    parser.set_defaults(handler=run)
    _remember_options(parser)


def add_job(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Add the options of commands that compute."""
    add_common(parser, run)
    parser.add_argument("--name", help="name of the run directory (default: made from the arguments)")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, start nothing"
    )
    add_ray(parser)
    _remember_options(parser)


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that use a Ray."""
    parser.add_argument(
        "--cluster",
        default="auto",
        metavar="auto|local|ADDRESS",
        help="Ray to use when one is needed: auto (RAY_ADDRESS if you set it, else a private one here), "
        "local (always a private one) or the address of a running one",
    )


def _remember_options(parser: argparse.ArgumentParser) -> None:
    """Keep the options' names, from which a misspelt one's nearest is found."""
    parser.set_defaults(options=[text for action in parser._actions for text in action.option_strings])


def words(args: argparse.Namespace) -> Words:
    """Split the command's words into sources, which may be URIs with options, and `key=value` overrides."""
    given: list[str] = args.words
    overrides = [word for word in given if "=" in word and "://" not in word.partition("=")[0]]
    return Words([word for word in given if word not in overrides], overrides)


def job(args: argparse.Namespace) -> Job:
    """Return what the options of `add_job` ask for."""
    from raysl import api

    return api.Job(words(args).overrides, args.name, args.runs, args.cluster, sayer(args))


def sayer(args: argparse.Namespace) -> Callable[[str], None]:
    """Return the function that tells people something: to stderr when stdout is for JSON."""
    stream = sys.stderr if args.json else sys.stdout
    return lambda line: print(line, file=stream, flush=True)


def emit_plan(args: argparse.Namespace, plan: dict[str, Any]) -> int:
    """Print what `--dry-run` found, and return the exit code."""
    emit(args, plan, "\n".join(plan["lines"]))
    return 0


def emit(args: argparse.Namespace, values: Any, text: str) -> None:
    """Print a result: as JSON when asked for, else its text."""
    print(json.dumps(values, indent=1, default=str) if args.json else text, flush=True)
