from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysl.errors import InputError
from raysl.report.compare import Comparison, compare
from raysl.report.curves import _line_styles, draw_curves, figure_of
from tests.report.made import curve, make_run, make_sweep


def _sweep(tmp_path: Path, count: int) -> Comparison:
    return compare([make_sweep(tmp_path / "sweep", [0.3 + 0.05 * number for number in range(count)])])


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "compare.png"
    assert draw_curves(_sweep(tmp_path, 3), target) == target
    with Image.open(target) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > 2 * pixels.shape[0] > 800
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (pixels == colour).all(axis=2).sum() > 100
    assert [file.name for file in target.parent.iterdir()] == ["compare.png"]


def test_one_panel_for_each_metric_one_line_for_each_run(tmp_path: Path) -> None:
    comparison = _sweep(tmp_path, 4)
    panels = figure_of(comparison).axes
    assert [panel.get_ylabel() for panel in panels] == ["train/loss", "eval/knn_top1", "diag/rankme"]
    assert {panel.get_xlabel() for panel in panels} == {"epoch"}
    for panel, tag in zip(panels, ("train/loss", "eval/knn_top1", "diag/rankme"), strict=True):
        lines = [line for line in panel.lines if line.get_marker() != "o"]
        assert len(lines) == 4
        for line, run in zip(lines, comparison.runs, strict=True):
            epochs, values = run.curves[tag]
            np.testing.assert_array_equal(line.get_xdata(), epochs)
            np.testing.assert_array_equal(line.get_ydata(), values)


@pytest.mark.parametrize("count", [2, 20])
def test_every_run_looks_different_and_the_legend_overlaps_nothing(tmp_path: Path, count: int) -> None:
    comparison = _sweep(tmp_path, count)
    looks = {(style["color"], style["linestyle"]) for style in _line_styles(comparison.runs).values()}
    assert len(looks) == count
    figure = figure_of(comparison)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"sweep/{number}" for number in range(count)]
    names, whole = legend.get_window_extent(), figure.bbox
    assert whole.y0 <= names.y0
    assert names.x1 <= whole.x1
    boxes = [box for panel in figure.axes if (box := panel.get_tightbbox()) is not None] + [names]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_of_many_runs_the_best_are_coloured(tmp_path: Path) -> None:
    figure = figure_of(_sweep(tmp_path, 25))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[-1] == "15 others"
    assert names[0] == "sweep/24"
    assert len(names) == 11
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "o"]
    assert sum(line.get_color() == "#B8B8B8" for line in lines) == 15


def test_losses_of_different_methods_are_not_drawn_together(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", curve(3, 1.0)),
        make_run(tmp_path / "b", curve(3, 1.0), method={"name": "matrix_ssl"}),
    ]
    panels = figure_of(compare(runs)).axes
    assert [panel.get_title() for panel in panels][:2] == [
        "training loss, simclr",
        "training loss, matrix_ssl",
    ]
    assert [len(panel.lines) for panel in panels] == [2, 2, 4, 4]


def test_a_single_epoch_is_a_dot_on_a_whole_axis(tmp_path: Path) -> None:
    figure = figure_of(compare([make_run(tmp_path / "run", curve(1, 1.0))]))
    assert not figure.legends
    assert [line.get_marker() for line in figure.axes[0].lines].count("o") == 1
    figure.canvas.draw()
    ticks = figure.axes[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)


def test_metrics_that_no_run_has_get_no_panel(tmp_path: Path) -> None:
    figure = figure_of(compare([make_run(tmp_path / "run", [{"train/loss": 1.0}, {"train/loss": 0.5}])]))
    assert [panel.get_ylabel() for panel in figure.axes] == ["train/loss"]


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no curves to draw"):
        draw_curves(compare([make_run(tmp_path / "run", epochs=2)]), tmp_path / "compare.png")


@pytest.mark.parametrize("name", ["compare", "compare.txt"])
def test_a_kind_that_cannot_be_drawn_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"use \.png"):
        draw_curves(_sweep(tmp_path, 1), tmp_path / name)
    assert not (tmp_path / name).exists()
