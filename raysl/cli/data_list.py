"""`raysl data list`: the data sets that have a name here."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from raysl.cli.options import add_common, emit

if TYPE_CHECKING:
    from raysl.data.catalog import Entry


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
    from raysl import api

    entries, width = api.data_list(), shutil.get_terminal_size().columns
    lines = [line for entry in entries for line in _described(entry, max(width, 40))]
    lines.append("next: raysl data prepare NAME data/NAME, then data.source=NAME")
    emit(args, [entry.to_dict() for entry in entries], "\n".join(lines))
    return 0


def _described(entry: Entry, width: int) -> Iterator[str]:
    splits = ", ".join(
        f"{name} {'(those of its classes)' if images is None else f'{images:,}'}"
        for name, images in entry.splits.items()
    )
    facts = [f"{splits}; {entry.classes:,} classes; {entry.size} pixels"]
    if entry.mean is not None and entry.std is not None:
        facts.append(f"mean {list(entry.mean)}, std {list(entry.std)}")
    facts += [f"get it: {entry.get}", f"terms: {entry.licence}"]
    facts += [f"note: {entry.note}"] if entry.note else []
    yield f"{entry.name}: {entry.title}"
    for fact in facts:
        yield from textwrap.wrap(
            fact, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
