"""`raysl`: parse, dispatch, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from raysl import __version__
from raysl.cli import compare, config, evaluate, ls, pretrain, quickstart, show, sweep
from raysl.config import nearest
from raysl.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED, RayslError

_COMMANDS = (quickstart, sweep, pretrain, evaluate, compare, ls, show, config)
_EPILOG = """\
exit codes: 0 done, 1 failure, 2 bad input, 3 collapsed or diverged,
            75 interrupted (the same command continues)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parse(list(sys.argv[1:] if arguments is None else arguments))
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        code: int = args.handler(args)
        return code
    except RayslError as error:
        return _fail(args, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(args, "stopped", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter's last flush would complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as error:
        return _fail(args, f"{type(error).__name__}: {error} (--debug shows the trace)", EXIT_FAILURE)


def _fail(args: argparse.Namespace, message: str, code: int) -> int:
    if args.debug:
        traceback.print_exc()
    print(f"raysl: {message}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="raysl",
        description="Search hyperparameters of self-supervised pretraining, scale the winner, judge it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"raysl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _parse(arguments: list[str]) -> argparse.Namespace:
    args, rest = build_parser().parse_known_args(arguments)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown or (rest and not hasattr(args, "words")):
        known = ["--name", "--json", "--dry-run", "--cluster", "--debug", "--runs", "--help"]
        print(
            f"raysl {args.command}: no option {(unknown or rest)[0]}; {nearest((unknown or rest)[0], known)}",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_BAD_INPUT)
    if rest:
        # argparse takes positional words in one run only; those after an option come back here.
        args.words = [*args.words, *rest]
    return args
