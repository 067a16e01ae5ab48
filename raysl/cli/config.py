"""`raysl config show | list | docs`: a resolved config, what there is to choose from, and every field."""

from __future__ import annotations

import argparse
from typing import Any

from raysl.cli.options import add_common, emit, words
from raysl.config import RECIPES, SEARCH_SPACES, load, yaml


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "config", help="show a resolved config, list recipes and search spaces, or document every field"
    )
    actions = parser.add_subparsers(metavar="show|list|docs", required=True)
    show = actions.add_parser("show", help="print the whole resolved config of sources and overrides as YAML")
    show.add_argument("words", nargs="+", metavar="RECIPE|FILE|key=value", help="sources and overrides")
    show.add_argument("--fields", action="store_true", help="explain each field as a comment above it")
    add_common(show, _show)
    add_common(actions.add_parser("list", help="list recipes and search spaces"), _list)
    add_common(actions.add_parser("docs", help="print docs/CONFIG.md: every field there is"), _docs)


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


_HEAD = """# Configuration

Written by `raysl config docs`; do not edit. Every key of a run's config with its type, bounds and default.
A key is given in YAML, or as an override such as `optimizer.lr=0.1`; `method` has the keys of the method it
names. Lengths are epochs (`10`), shares of the horizon (`"5%"`) or steps (`"500 steps"`).
"""


def _docs(args: argparse.Namespace) -> int:
    from raysl import methods
    from raysl.config import Config
    from raysl.config.describe import reference
    from raysl.train.config import RunConfig

    sections: dict[str, type[Config]] = {"A run": RunConfig}
    for name, field in RunConfig.model_fields.items():
        if name != "method" and isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            sections[name] = field.annotation
    for name in methods.method_names():
        method = methods.config_class(name)
        # Other packages' methods are documented by them.
        if method.__module__ == f"{methods.__name__}.{name}":
            sections[f"method {name}"] = method
    text = f"{_HEAD}\n{reference(sections)}".rstrip()
    emit(args, {"markdown": text}, text)
    return 0
