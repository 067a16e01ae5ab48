"""`raysl data list`: the data sets that have a name here."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from raysl.cli.options import add_common, emit


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser of `raysl data`."""
    parser = commands.add_parser(
        "list",
        help="list the data sets that have a name: sizes, splits, terms, and how to get each",
        description="A named set is trained on as data.source=NAME once it is prepared (raysl data prepare "
        "NAME data/NAME). Paths of Parquet files or folders of images need no name.",
    )
    add_common(parser, _run)


def _run(args: argparse.Namespace) -> int:
    from raysl.data.catalog import CATALOG

    lines = []
    for entry in CATALOG.values():
        lines.append(f"{entry.name}: {entry.title}")
        lines.append(f"  {_splits(entry.splits)}; {entry.classes} classes; {entry.size} pixels")
        if entry.mean is not None and entry.std is not None:
            lines.append(f"  mean {list(entry.mean)}, std {list(entry.std)}")
        lines += [f"  get it: {entry.get}", f"  terms: {entry.licence}"]
        lines += [f"  note: {entry.note}"] if entry.note else []
    emit(args, [entry.to_dict() for entry in CATALOG.values()], "\n".join(lines))
    return 0


def _splits(splits: Mapping[str, int | None]) -> str:
    return ", ".join(
        f"{name} {images:,}" if images else f"{name} by class" for name, images in splits.items()
    )
