"""What there is: runs listed, shown and compared; and files to begin a method of one's own with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raysl.report.compare import Comparison
    from raysl.report.detail import RunDetail, SweepDetail
    from raysl.report.runs import Listing
    from raysl.templates import NewMethod


def ls(runs: str | Path = "runs") -> Listing:
    """List the runs and sweeps in a folder."""
    from raysl.report.runs import list_runs

    return list_runs(runs)


def show(run: str | Path) -> RunDetail | SweepDetail:
    """Return a run or a sweep in detail.

    Raises:
        InputError: it is neither.
    """
    from raysl.report.detail import show_run

    return show_run(run)


def compare(runs: Sequence[str | Path], output: str | Path | None = None) -> Comparison:
    """Compare runs: the settings in which they differ and their metrics; a sweep stands for its trials.

    Args:
        runs: run or sweep directories.
        output: file of a picture of their curves; none is drawn when not given.

    Raises:
        InputError: a directory is no run, or the picture cannot be written.
    """
    from raysl.report.compare import compare
    from raysl.report.curves import draw_curves

    comparison = compare(runs)
    if output is not None:
        draw_curves(comparison, output)
    return comparison


def new_method(name: str, to: str | Path = ".") -> NewMethod:
    """Write a method of one's own, with its recipe, search space and test; nothing is overwritten.

    Args:
        name: a Python name in lower case.
        to: folder to write into.

    Raises:
        InputError: the name cannot be used, or a file of that name is there.
    """
    from raysl.templates import new_method

    return new_method(name, to)
