"""`raysl`: parse, dispatch, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

from raysl import __version__
from raysl.cli import (
    compare,
    config,
    data,
    evaluate,
    ls,
    new,
    pretrain,
    quickstart,
    scale,
    show,
    sweep,
    verify,
)
from raysl.config import nearest
from raysl.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED, Interrupted, RayslError

_COMMANDS = (quickstart, sweep, pretrain, scale, evaluate, compare, verify, ls, show, new, data, config)
_EPILOG = """\
exit codes: 0 done, 1 failure, 2 bad input, 3 collapsed or diverged,
            75 interrupted (the same command continues)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parse(list(sys.argv[1:] if arguments is None else arguments))
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        with _signals_interrupt():
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


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and SIGUSR1 end a command with exit code 75 outside training, which has its own way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(
            f"{signal.Signals(number).name}: nothing was being trained; the same command goes on"
        )

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    args, rest = build_parser().parse_known_args(sweep.joined(arguments))
    unknown = [word for word in rest if word.startswith("-")]
    if unknown or (rest and not hasattr(args, "words")):
        wrong = (unknown or rest)[0]
        hint = (
            nearest(wrong.partition("=")[0], args.options) if unknown else f"see raysl {args.command} --help"
        )
        print(f"raysl {args.command}: cannot take {wrong}; {hint}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT)
    if rest:
        # argparse takes positional words in one run only; those after an option come back here.
        args.words = [*args.words, *rest]
    return args
