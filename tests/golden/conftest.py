"""The line that says how the reference vectors came out, for each directory of them."""

from __future__ import annotations

from collections import defaultdict

import pytest

CASE = "golden"
"""A test's property: the directory of its case, the case, and whether anything of ours computes it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed: dict[str, dict[str, bool]] = defaultdict(dict)
    mapped: dict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport) or report.when != "call":
                continue
            for name, value in report.user_properties:
                if name != CASE or not isinstance(value, tuple):
                    continue
                directory, case, known = value
                passed[directory][case] = passed[directory].get(case, True) and report.passed
                if known:
                    mapped[directory].add(case)
    for directory, cases in passed.items():
        terminalreporter.write_line(
            f"golden: {sum(cases.values())} passed / {len(mapped[directory])} mapped / {len(cases)} total "
            f"({directory})"
        )
