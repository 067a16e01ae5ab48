"""`raysl data show`: a picture of images and the views that a recipe makes of them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from raysl.cli.options import add_common, emit, words
from raysl.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser of `raysl data`."""
    parser = commands.add_parser(
        "show",
        help="draw images and the views that a recipe makes of them",
        description="Draw random training images, one to a row: the image, its un-augmented view where the "
        "method asks for one, and its views in the first epoch.",
        epilog="example: raysl data show data/cifar10 --recipe cifar10/w_mse -o views.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="SOURCE|key=value",
        help="images as data.source, and overrides of the recipe",
    )
    parser.add_argument("--recipe", required=True, metavar="RECIPE|FILE", help="whose views to draw")
    parser.add_argument(
        "-o", "--output", default="views.png", metavar="FILE", help="the picture (default: views.png)"
    )
    parser.add_argument("--images", type=int, default=8, metavar="N", help="images to draw (default: 8)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another draws other images and views (default: 0)"
    )
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    sources, overrides = words(args)
    if len(sources) != 1:
        raise InputError(f"raysl data show takes one source of images, not {len(sources)}")
    drawn = api.data_show(
        sources[0], args.recipe, args.output, overrides=overrides, images=args.images, seed=args.seed
    )
    emit(args, asdict(drawn), drawn.describe())
    return 0
