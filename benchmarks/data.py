"""Data: views, feeds and preparing, beside what they are meant to replace.

    python -m benchmarks.data [views32|views224|ray|gap|memory|bounded|corrupt ...]
        --small data/cifar10 --large data/imagenet-sample [--rounds 5] [--images N] [--picture DIR]

Each row is the median of `--rounds`, and its ratios are of works done in turn in one run, so that what
else the machine does falls on both. The exit code is 1 when a requirement is missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.data_case import HEADER, Options, load_note

_ROWS = {
    "views32": ("data_views", "views32"),
    "views224": ("data_views", "views224"),
    "ray": ("data_ray", "ray_feed"),
    "gap": ("data_ray", "gap"),
    "memory": ("data_memory", "memory"),
    "bounded": ("data_bounded", "bounded"),
    "corrupt": ("data_bounded", "corrupt"),
}


def main() -> int:
    """Measure the chosen rows and print them as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(_ROWS)}; all by default")
    parser.add_argument("--small", required=True, help="source of 32-pixel images, CIFAR-10")
    parser.add_argument("--large", required=True, help="source of photographs of natural size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="images of each round")
    parser.add_argument("--picture", type=Path, default=Path("docs/images"), help="folder for the plot")
    args = parser.parse_args()
    unknown = [name for name in args.rows if name not in _ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]}; there are {', '.join(_ROWS)}")
    options = Options(args.small, args.large, args.rounds, args.images, args.picture)
    print(HEADER, flush=True)
    met = True
    for name in args.rows or _ROWS:
        module, function = _ROWS[name]
        for row in getattr(importlib.import_module(f"benchmarks.{module}"), function)(options):
            print(row.describe(), flush=True)
            met = met and row.met
    print(load_note())
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
