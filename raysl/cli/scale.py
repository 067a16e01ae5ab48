"""`raysl scale`: write the config of the big run."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit, words


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "scale",
        help="write the config of a larger run and say of each value what becomes of it",
        description="Write the config of a larger run. Every value is labelled: transferred (it may stay), "
        "rescaled (a rule says what becomes of it) or unsafe (no rule is known, or not this far). "
        "What no option changes stays as the small run has it.",
        epilog="example: raysl scale runs/mec/best.yaml --global-batch 4096 --workers 64 --epochs 100",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="RECIPE|FILE|key=value", help="the small run's config")
    parser.add_argument("--global-batch", type=int, metavar="N", help="images of all workers together")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the global batch")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs, and the schedules' horizon")
    parser.add_argument("--image-size", type=int, metavar="N", help="side of the first view in pixels")
    parser.add_argument("--data", metavar="PATH", help="another data.source")
    parser.add_argument("--to", metavar="FILE", help="file to write (default: NAME-bBATCH.yaml here)")
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, overrides = words(args)
    scaled = api.scale(
        *sources,
        batch_size=args.global_batch,
        workers=args.workers,
        epochs=args.epochs,
        image_size=args.image_size,
        data=args.data,
        to=args.to,
        overrides=overrides,
    )
    emit(args, scaled.to_dict(), scaled.describe())
    return 0
