"""`raysl data show`: a picture of images and the views that a recipe makes of them."""

from __future__ import annotations

import argparse
from pathlib import Path
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
    parser.add_argument("words", nargs="+", metavar="SOURCE|key=value", help="images, and overrides")
    parser.add_argument("--recipe", required=True, metavar="RECIPE|FILE", help="whose views to draw")
    parser.add_argument("-o", "--output", default="views.png", metavar="FILE", help="default: views.png")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="images to draw (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="draws images and views (default: 0)")
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from PIL import Image

    from raysl.config import load
    from raysl.data.grid import recipe_grid
    from raysl.data.sample import sample_pictures
    from raysl.train.config import RunConfig

    sources, overrides = words(args)
    if len(sources) != 1:
        raise InputError(f"raysl data show takes one source of images, not {len(sources)}")
    if not 1 <= args.images <= 64:
        raise InputError(f"--images {args.images}: choose 1 to 64")
    config = load(RunConfig, [args.recipe], [f"data.source={sources[0]}", *overrides])
    pictures = sample_pictures(config.data, args.images, args.seed)
    picture = recipe_grid(pictures, config.views, config.method.plain_views, args.seed)
    path = Path(args.output)
    try:
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"-o {path} cannot be written ({error}): name a .png or .jpg in a folder that is there"
        ) from None
    height, width = picture.shape[:2]
    count = config.views.count
    values = {"file": str(path), "images": len(pictures), "views": count, "width": width, "height": height}
    each = f"{count} view{'s' if count > 1 else ''} each"
    emit(args, values, f"{path}: {len(pictures)} images, {each}, {width}x{height} pixels")
    return 0
