from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from raysl.report.text import age, number, paragraph, percent, render, size, table, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (3.14159, "3.142"), (1e-6, "1e-06"), (9999.6, "1e+04"), (1234567.8, "1234568")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_percents_keep_their_zeros() -> None:
    assert (percent(89.0), percent(None)) == ("89.00", "–")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (0.1 + 0.2, "0.3"), ("(absent)", "–"), ([1, 2], "[1, 2]")],
)
def test_config_values(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "now"), (42, "42 s"), (300, "5 min"), (7200, "2 h"), (864000, "10 d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (2048, "2.0 KiB"), (3 * 2**20, "3.0 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_tables_are_plain_text() -> None:
    made = table("name", "value")
    made.add_row("a", "1")
    made.add_row("[b]", "22")
    lines = render(made).splitlines()
    assert lines[0].split() == ["name", "value"]
    assert lines[-1].split() == ["[b]", "22"]
    assert lines[-2].endswith(" 1")
    assert "\x1b" not in "".join(lines)


def test_paragraphs_are_folded_and_indented() -> None:
    lines = paragraph("head", "word " * 40).splitlines()
    assert lines[0].startswith("head       word")
    assert all(line.startswith(" " * 11 + "word") and len(line) <= 110 for line in lines[1:])
    assert len(lines) > 1


def test_reports_import_nothing_heavy() -> None:
    """`raysl ls` and `raysl compare --help` should answer at once."""
    heavy = ["torch", "ray", "matplotlib", "optuna", "sklearn", "torchvision"]
    code = (
        "import sys, raysl.report.runs, raysl.report.compare, raysl.report.curves\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "[]"
