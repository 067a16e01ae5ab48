"""`raysl data prepare`: any source of images as sharded Parquet."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from raysl.cli.options import add_common, emit, sayer
from raysl.errors import InputError

if TYPE_CHECKING:
    from raysl.data.prepare.pixels import Shape, Treatment
    from raysl.data.prepare.prepare import Limit, Request

_EPILOG = """\
examples:
  raysl data prepare photos/ data/photos
  raysl data prepare cifar10 data/cifar10 --download
  raysl data prepare imagenet100 data/imagenet100 --from /data/imagenet --evaluation-size 256:224
run again, it goes on where it was; finished, it checks the checksums"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser of `raysl data`."""
    parser = commands.add_parser(
        "prepare",
        help="write any source of images as sharded Parquet, and list what is broken",
        description="Write a Parquet file or folder, a folder of images, or a set of raysl data list as "
        "sharded Parquet with a manifest. Images keep their bytes unless their size is changed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="a path or URI, or a name of raysl data list")
    parser.add_argument("out", metavar="OUT", help="new folder or URI (s3://, gs://)")
    _add_origin(parser)
    _add_form(parser)
    parser.add_argument(
        "--max-bad", default="1%", metavar="N|P%", help="give up when more images are broken (default: 1%%)"
    )
    parser.add_argument("--cluster", default="auto", metavar="auto|local|ADDRESS", help="Ray that does it")
    add_common(parser, _run)


def _add_origin(parser: argparse.ArgumentParser) -> None:
    origin = parser.add_argument_group("what to take")
    origin.add_argument("--from", dest="place", metavar="DIR", help="folder or URI of a named set's release")
    origin.add_argument(
        "--download",
        action="store_true",
        help="let torchvision download the release (to --from, by default downloads/ beside OUT)",
    )
    origin.add_argument(
        "--split", action="append", metavar="NAME", help="take this split only (can be given again)"
    )
    origin.add_argument(
        "--classes", metavar="FILE", help="take the classes listed in a text file, one a line"
    )
    origin.add_argument("--image-column", default="image", metavar="NAME", help="in Parquet (default: image)")
    origin.add_argument("--label-column", default="label", metavar="NAME", help="in Parquet (default: label)")


def _add_form(parser: argparse.ArgumentParser) -> None:
    form = parser.add_argument_group("how to keep it")
    form.add_argument("--resize-short", type=int, metavar="N", help="shrink to a short side of N pixels")
    form.add_argument("--crop", type=int, metavar="N", help="cut to the centre square of N pixels")
    form.add_argument(
        "--evaluation-size",
        metavar="N[:CROP]",
        help="for val and test images: short side, and centre square (default: as the others)",
    )
    form.add_argument("--quality", type=int, default=90, help="JPEG quality of resized images (default: 90)")
    form.add_argument("--interpolation", choices=("bilinear", "bicubic"), default="bilinear")
    form.add_argument(
        "--shard-size",
        type=float,
        default=64,
        metavar="MB",
        help="MiB of source images a shard (default: 64)",
    )
    form.add_argument("--rows", type=int, metavar="N", help="images of a shard, at most, instead")
    form.add_argument(
        "--group-rows", type=int, default=256, metavar="N", help="of a row group (default: 256)"
    )


def _run(args: argparse.Namespace) -> int:
    from raysl import api

    prepared = api.data_prepare(
        args.source,
        args.out,
        _request(args),
        place=args.place,
        download=args.download,
        splits=args.split or (),
        classes=args.classes,
        image_column=args.image_column,
        label_column=args.label_column,
        cluster=args.cluster,
        say=sayer(args),
    )
    emit(args, prepared.to_dict(), prepared.to_text())
    return 0


def _request(args: argparse.Namespace) -> Request:
    from raysl.data.prepare.prepare import Request

    for name in ("resize_short", "crop", "rows", "group_rows", "shard_size"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected a number above 0")
    if not 1 <= args.quality <= 100:
        raise InputError(f"--quality {args.quality}: expected 1 to 100")
    return Request(
        treatment=_treatment(args),
        shard_bytes=int(args.shard_size * 2**20),
        shard_rows=args.rows,
        group_rows=args.group_rows,
        limit=_limit(args.max_bad),
    )


def _treatment(args: argparse.Namespace) -> Treatment:
    from raysl.data.prepare.pixels import Shape, Treatment

    train = Shape(args.resize_short, args.crop)
    evaluation = train if args.evaluation_size is None else _shape(args.evaluation_size)
    for shape in (train, evaluation):
        if shape.short is not None and shape.crop is not None and shape.crop > shape.short:
            raise InputError(f"a crop of {shape.crop} does not fit in a short side of {shape.short} pixels")
    return Treatment(train, evaluation, args.quality, args.interpolation)


def _shape(text: str) -> Shape:
    from raysl.data.prepare.pixels import Shape

    match = re.fullmatch(r"([1-9]\d*)(?::([1-9]\d*))?", text)
    if match is None:
        raise InputError(f"--evaluation-size {text}: expected a short side, or SHORT:CROP such as 256:224")
    return Shape(int(match[1]), None if match[2] is None else int(match[2]))


def _limit(text: str) -> Limit:
    from raysl.data.prepare.prepare import Limit

    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%|(0?\.\d+)", text)
    if match is None or (match[2] is not None and float(match[2]) > 100):
        raise InputError(f"--max-bad {text}: expected a number of images, or a share such as 1% or 0.01")
    if match[1] is not None:
        return Limit(number=int(match[1]))
    return Limit(share=float(match[3]) if match[3] is not None else float(match[2]) / 100)
