"""Numbers, times and tables as people read them."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

ABSENT = "–"
NO_KEY = "(absent)"
"""Stands for a config value where a run has no such key, to tell it from null."""
_PIPED_WIDTH = 200
_PARAGRAPH = 110
_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def number(value: float | None) -> str:
    """Write a number with four significant digits; a dash for none."""
    return ABSENT if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def percent(value: float | None) -> str:
    """Write an accuracy in percent with two decimals; a dash for none."""
    return ABSENT if value is None else f"{value:.2f}"


def metric_text(value: float | None, tag: str) -> str:
    """Write the value of a metric as its tag asks for."""
    return percent(value) if tag.startswith("eval/") else number(value)


def value_text(value: Any) -> str:
    """Write a config value as YAML would, on one line; a dash where a run has no such key."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if value == NO_KEY:
        return ABSENT
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def age(seconds: float) -> str:
    """Write how long ago: 42 s, 5 min, 3 h, 12 d."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "now"


def size(count: int) -> str:
    """Write a number of bytes."""
    for length, unit in _SIZES:
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"


def table(*columns: str, title: str | None = None, numbers: bool = True) -> Table:
    """Return an empty table; the first column holds names, the others numbers or texts."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="", pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="right" if place and numbers else "left", overflow="fold")
    return made


def render(made: Table) -> str:
    """Return a table as plain text, as wide as the terminal, or wide where there is none."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH
    out = io.StringIO()
    # Without markup, because values such as [0.5, 1.0] and names of folders are no styles.
    Console(file=out, width=width, color_system=None, markup=False, emoji=False).print(made)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def paragraph(head: str, text: str, indent: int = 11) -> str:
    """Return a text behind its heading, folded, further lines indented."""
    return textwrap.fill(
        f"{head:<{indent}}{text}", width=_PARAGRAPH, subsequent_indent=" " * indent, break_on_hyphens=False
    )
