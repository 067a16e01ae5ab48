"""`raysl sweep SPACE`, and `raysl sweep VERB`, which argparse knows as commands named of two words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raysl.cli import sweep_check, sweep_extend, sweep_record, sweep_simulate
from raysl.cli.options import add_job, emit, emit_plan, job, words
from raysl.config import SEARCH_SPACES, nearest
from raysl.errors import InputError

VERBS = {
    "check": ("SPACE", "everything wrong with a space, and how large it is; reads no data"),
    "status": ("RUN", "how a sweep stands, while it runs or not"),
    "stop": ("RUN", "make it save and stop, from any process or host"),
    "extend": ("RUN key=value", "more trials or a larger budget, and go on"),
    "repeat-best": ("RUN --seeds N", "run the chosen configuration with more seeds"),
    "export": ("RUN -o FILE", "its trials and curves as one table"),
    "replay": ("RUN", "decide everything again from the record, and compare"),
    "simulate": ("SPACE --curves FILE", "a sweep over recorded curves, in no time"),
}
_EPILOG = """\
examples: raysl sweep matrix_ssl trials=16
          raysl sweep simclr base=[cifar10/small] data.source=path/to/cifar10

around a sweep (each has its own --help; RUN is the sweep's directory):
"""


def add_parser(commands: Any) -> None:
    """Add the command and its verbs to the parser."""
    verbs = "\n".join(f"  raysl sweep {f'{verb} {given}':<29}{told}" for verb, (given, told) in VERBS.items())
    parser = commands.add_parser(
        "sweep",
        help="search hyperparameters with Ray Tune and Optuna, with early stopping",
        usage="raysl sweep SPACE [key=value ...] [options]\n       raysl sweep VERB ... (see below)",
        description="Search a method's hyperparameters. Overrides set keys of the space (trials=32, "
        "concurrent=4) or of the runs it makes (data.source=PATH, train.epochs=20). The same "
        "command continues a sweep.",
        epilog=_EPILOG + verbs,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="SPACE|key=value", help="a search space, and overrides")
    add_job(parser, _run)
    for module in (sweep_check, sweep_record, sweep_extend, sweep_simulate):
        module.add_parser(commands)


def joined(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which `sweep VERB` is one word, as the parsers of the verbs are named."""
    if len(arguments) > 1 and arguments[0] == "sweep" and arguments[1] in VERBS:
        return [f"sweep {arguments[1]}", *arguments[2:]]
    return list(arguments)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, asked = words(args).sources, job(args)
    if len(sources) > 1:
        _refuse(sources)
    if len(sources) != 1:
        raise InputError(
            "raysl sweep takes one search space, a name (raysl config list) or a YAML file, or a verb: "
            + ", ".join(VERBS)
        )
    _check_word(sources[0])
    if args.dry_run:
        return emit_plan(args, api.plan_sweep(sources[0], asked))
    result = api.sweep(sources[0], **vars(asked))
    emit(args, asdict(result), result.describe())
    return 0


def _refuse(sources: Sequence[str]) -> None:
    """Say what is wrong with several words, where a verb can be meant."""
    late = next((word for word in sources if word in VERBS), None)
    if late is not None:
        raise InputError(f"{late}: expected right after sweep: raysl sweep {late} ...")
    _check_word(sources[0])


def _check_word(word: str) -> None:
    """Refuse a word that is neither a space nor a verb, with the nearest of both."""
    names = SEARCH_SPACES.names()
    if word in names or Path(word).exists() or Path(word).suffix in {".yaml", ".yml"}:
        return
    raise InputError(
        f"{word}: no such search space or file, nor a verb of raysl sweep; "
        f"{nearest(word, {*names, *VERBS})} (raysl config list shows all spaces)"
    )
