"""A config as YAML in which every field is explained."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from raysl.config import yaml
from raysl.config.base import Config


def commented(config: Config) -> str:
    """Return the config as YAML with each field's documentation as a comment above it."""
    return "\n".join(_lines(config, ""))


def _lines(config: Config, indent: str) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value: Any = getattr(config, name)
        text = " ".join((field.description or "").split())
        yield from textwrap.wrap(text, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if isinstance(value, Config):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            written = yaml.dump({name: config.to_dict()[name]}).rstrip()
            yield textwrap.indent(written, indent)
