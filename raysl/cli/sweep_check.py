"""`raysl sweep check`: all mistakes of a search space at once."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_common, emit, words
from raysl.errors import EXIT_BAD_INPUT, InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sweep check",
        description="Check a search space offline: keys, types and bounds, ties, constraints, priors, "
        "stopping, sampler, objectives, budget and placement. All mistakes are listed at once (exit code 2). "
        "A sound space is described: its size, how many random draws can be trials, how many epochs.",
        epilog="example: raysl sweep check my_space.yaml trials=60 --nodes 2 --cpus 16 --gpus 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="SPACE|key=value", help="a search space, and overrides")
    parser.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="nodes the sweep will have (default: 1)"
    )
    parser.add_argument("--cpus", type=float, metavar="N", help="CPUs of each (default: this machine's)")
    parser.add_argument("--gpus", type=float, metavar="N", help="GPUs of each (default: this machine's)")
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, overrides = words(args)
    if len(sources) != 1:
        raise InputError(
            "raysl sweep check takes one search space: a name (raysl config list) or a YAML file"
        )
    found = api.sweep_check(sources[0], overrides=overrides, nodes=args.nodes, cpus=args.cpus, gpus=args.gpus)
    if found.mistakes and not args.json:
        raise InputError(found.describe())
    emit(args, asdict(found), found.describe())
    return EXIT_BAD_INPUT if found.mistakes else 0
