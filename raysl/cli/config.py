"""`raysl config show | list`: a resolved config, and the recipes and search spaces there are."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit, words
from raysl.config import RECIPES, SEARCH_SPACES, load, yaml


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("config", help="show a resolved config, or list recipes and search spaces")
    actions = parser.add_subparsers(metavar="show|list", required=True)
    show = actions.add_parser("show", help="print the whole resolved config of sources and overrides as YAML")
    show.add_argument("words", nargs="+", metavar="RECIPE|FILE|key=value", help="sources and overrides")
    show.add_argument("--fields", action="store_true", help="explain each field as a comment above it")
    add_common(show, _show)
    add_common(actions.add_parser("list", help="list recipes and search spaces"), _list)


def _show(args: argparse.Namespace) -> int:
    from raysl.config.describe import commented
    from raysl.train.config import RunConfig

    config = load(RunConfig, *words(args))
    text = commented(config) if args.fields else yaml.dump(config.to_dict()).rstrip()
    emit(args, config.to_dict(), text)
    return 0


def _list(args: argparse.Namespace) -> int:
    found = {"recipes": RECIPES.names(), "search spaces": SEARCH_SPACES.names()}
    lines = [f"{kind}:\n" + "\n".join(f"  {name}" for name in names) for kind, names in found.items()]
    emit(args, found, "\n".join(lines))
    return 0
