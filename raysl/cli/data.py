"""`raysl data list | prepare | bench | show`: what there is, made ready, measured and looked at."""

from __future__ import annotations

from typing import Any

from raysl.cli import data_bench, data_list, data_prepare, data_show


def add_parser(commands: Any) -> None:
    """Add the command and its subcommands to the parser."""
    parser = commands.add_parser(
        "data",
        help="list data sets, prepare images as Parquet, measure their way to views, or look at views",
    )
    subcommands = parser.add_subparsers(metavar="list|prepare|bench|show", required=True)
    for command in (data_list, data_prepare, data_bench, data_show):
        command.add_parser(subcommands)
