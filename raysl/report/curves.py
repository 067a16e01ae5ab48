"""The curves of runs as a picture: one panel for each metric, one line for each run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl.errors import InputError
from raysl.report.compare import Comparison
from raysl.report.records import KNN, LOSS, RANK, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLES = {LOSS: "training loss", KNN: "online k-NN accuracy (%)", RANK: "effective rank of embeddings"}
_MOST_LOSSES = 4
"""Methods whose losses, which cannot be compared, each get a panel."""
# Okabe and Ito's colours, which colour-blind readers can tell apart, without the yellow that paper swallows.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_MOST_COLOURED = len(_COLOURS) * len(_STYLES) - 1
_COLOURED_OF_MORE = 10
_BACKGROUND: dict[str, Any] = {"color": "#B8B8B8", "linewidth": 0.8}


def draw_curves(comparison: Comparison, path: str | Path) -> Path:
    """Draw the curves of compared runs.

    Up to twenty runs each have a colour and line of their own, told in a legend beside the panels. Of more,
    the ten best are coloured, the best first, and the rest is grey. A run's last epoch is a dot, so that one
    that was stopped is seen.

    Args:
        comparison: the runs.
        path: where the picture goes; its suffix says which kind (`.png`, `.svg`, `.pdf`).

    Returns:
        The path.

    Raises:
        InputError: no run has an epoch on record, or the suffix is none that can be drawn.
    """
    target = Path(path)
    figure = figure_of(comparison)
    kinds = figure.canvas.get_supported_filetypes()
    if target.suffix.removeprefix(".") not in kinds:
        raise InputError(
            f"{path}: cannot draw {target.suffix or 'a file without suffix'}; use .png, .svg or .pdf"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        figure.savefig(aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def figure_of(comparison: Comparison) -> Figure:
    """Return the picture of `draw_curves` as a matplotlib figure.

    Raises:
        InputError: no run has an epoch on record.
    """
    panels, styles = _panels(comparison), _line_styles(comparison.runs)
    if not panels:
        raise InputError("no run has a finished epoch yet, so there are no curves to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.1 * columns + 0.4, 3.6 * rows), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, place), panel, comparison.runs, styles)
    _draw_legend(figure, comparison.runs, styles)
    return figure


@dataclass(frozen=True)
class _Panel:
    """One metric, of the runs at some places."""

    tag: str
    title: str
    places: list[int]


def _panels(comparison: Comparison) -> list[_Panel]:
    runs, panels = comparison.runs, []
    for tag in (tag for tag in _TITLES if tag in comparison.metrics):
        measured = [place for place, run in enumerate(runs) if tag in run.curves]
        methods = list(dict.fromkeys(runs[place].method for place in measured))
        if tag == LOSS and 1 < len(methods) <= _MOST_LOSSES:
            for method in methods:
                own = [place for place in measured if runs[place].method == method]
                panels.append(_Panel(tag, f"{_TITLES[tag]}, {method}", own))
        else:
            panels.append(_Panel(tag, _TITLES[tag], measured))
    return panels


def _draw_panel(axes: Axes, panel: _Panel, runs: list[RunRecord], styles: dict[int, dict[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for place in panel.places:
        epochs, values = runs[place].curves[panel.tag]
        front = place in styles
        style = styles.get(place, _BACKGROUND)
        axes.plot(epochs, values, **style, zorder=3 if front else 2)
        size = 4.0 if front else 2.5
        axes.plot(
            epochs[-1:], values[-1:], "o", color=style["color"], markersize=size, zorder=4 if front else 2
        )
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(panel.tag, fontsize=9, color="#555555")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlim(0, 1.03 * max(run.epochs for run in runs))
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _draw_legend(figure: Figure, runs: list[RunRecord], styles: dict[int, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    if len(runs) == 1:
        figure.suptitle(runs[0].name, fontsize=11)
        return
    lines = {runs[place].name: Line2D([], [], **style) for place, style in styles.items()}
    others = len(runs) - len(styles)
    if others:
        lines[f"{others} others"] = Line2D([], [], **_BACKGROUND)
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside right upper",
        fontsize=8,
        frameon=False,
        handlelength=2.6,
    )


def _line_styles(runs: list[RunRecord]) -> dict[int, dict[str, Any]]:
    """Return a colour and dash for each run that gets one, by its place."""
    places = list(range(len(runs)))
    if len(runs) > _MOST_COLOURED:
        places = sorted(places, key=lambda place: _badness(runs[place]))[:_COLOURED_OF_MORE]
    return {
        place: {
            "color": _COLOURS[order % len(_COLOURS)],
            "linestyle": _STYLES[order // len(_COLOURS)],
            "linewidth": 1.6,
        }
        for order, place in enumerate(places)
    }


def _badness(run: RunRecord) -> tuple[int, float]:
    """Return what is lower for better runs: those with k-NN accuracy come first, then those with a loss."""
    knn, loss = run.best(KNN), run.best(LOSS)
    if knn is not None:
        return 0, -knn.value
    return (1, loss.value) if loss is not None else (2, 0.0)
