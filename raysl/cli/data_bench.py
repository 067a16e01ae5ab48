"""`raysl data bench`: what making views of a source costs here, and how many CPU cores a GPU needs."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit, sayer, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser of `raysl data`."""
    parser = commands.add_parser(
        "bench",
        help="measure decoding, views and feeds on this machine, and what a GPU would need",
        description="Draw images of a source and measure, for a recipe's views, what decoding and each "
        "operation cost one core, what each feed delivers, and how many cores keep a GPU busy.",
        epilog="example: raysl data bench data/imagenet --recipe imagenet/mec --gpu-rate 2500",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="SOURCE|key=value",
        help="images as data.source, and overrides of the recipe",
    )
    parser.add_argument(
        "--recipe", metavar="RECIPE|FILE", help="whose views (default: one for images of such a size)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="time for each measurement (default: 3)"
    )
    parser.add_argument(
        "--gpu-rate", type=float, default=2500.0, metavar="N", help="images/s a GPU takes (default: 2500)"
    )
    parser.add_argument(
        "--cluster", default="auto", metavar="auto|local|ADDRESS", help="Ray that the ray feed uses"
    )
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, overrides = words(args)
    if len(sources) != 1:
        raise InputError(f"raysl data bench takes one source of images, not {len(sources)}")
    measured = api.data_bench(
        sources[0],
        args.recipe,
        overrides=overrides,
        seconds=args.seconds,
        gpu_rate=args.gpu_rate,
        cluster=args.cluster,
        say=sayer(args),
    )
    emit(args, measured.to_dict(), measured.describe())
    return 0
