"""Measuring a source: what is measured, and what follows from the numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from raysl.data.config import DataConfig, ViewsConfig
from raysl.data.measure import measure_source
from raysl.data.measured import FeedSpeed, Measured, Stage

from .made import encode, pictures

STAGES = [Stage("convert", 0.001), Stage("crop", 0.002), Stage("jitter", 0.005)]
MEMORY, RAY = FeedSpeed("memory", 100.0, 1), FeedSpeed("ray", 160.0, 2)


def made(decode: float | None = 0.004, *, natural: bool = False) -> Measured:
    return Measured(
        source="data/some",
        recipe="some/recipe",
        images=10,
        describe_images="8x8",
        describe_views="2 views of 8x8",
        decode=None if decode is None else Stage("decode", decode),
        views={"exact": STAGES, "fused": STAGES[:2]},
        feeds=[MEMORY, RAY],
        gpu_rate=1000.0,
        natural=natural,
    )


def test_cores_for_a_gpu_are_those_of_the_work_that_is_left_to_them() -> None:
    measured = made()
    assert [measured.cores(feed, views_on_gpu=False) for feed in (MEMORY, RAY)] == [10, 13]
    assert [measured.cores(feed, views_on_gpu=True) for feed in (MEMORY, RAY)] == [1, 4]
    assert made(natural=True).cores(RAY, views_on_gpu=True) == 6


def test_the_bottleneck_is_the_longest_stage_of_the_recipes_own_colour() -> None:
    stage, share = made().bottleneck("memory")
    assert stage.name == "jitter"
    assert share == pytest.approx(5 / 8)
    stage, share = made(decode=0.008).bottleneck("ray")
    assert stage.name == "decode"
    assert share == pytest.approx(8 / 16)


def test_the_text_and_the_values_say_the_same() -> None:
    measured = made()
    values = json.loads(json.dumps(measured.to_dict()))
    assert values["rates"] == {
        "decode": pytest.approx(250),
        "views_exact": pytest.approx(125),
        "views_fused": pytest.approx(1000 / 3),
    }
    assert values["feeds"][1]["cores_for_gpu"] == {"views_on_cpu": 13, "views_on_gpu": 4}
    lines = measured.describe().splitlines()
    assert "decode                           250     4.000" in lines
    assert "views, exact colour              125     8.000" in lines
    assert "ray, 2 cores                     160        80  jitter, 42% of a core's time" in lines
    assert "  ray: 13 with views on the CPU, 4 with views on the GPU" in lines
    assert math.isinf(Stage("flip", 0.0).rate)


@pytest.mark.parametrize("varied", [False, True])
def test_a_source_is_measured_from_its_files_to_its_views(tmp_path: Path, varied: bool) -> None:
    for number in range(20):
        (pixels,) = pictures(1, (24, 24 + varied * number), seed=number)
        (tmp_path / f"{number}.png").write_bytes(encode(pixels))
    views = ViewsConfig.model_validate(
        {"size": 16, "crop": {}, "flip": {}, "colour": "fused", "evaluation": {"resize": 18, "crop": 16}}
    )
    measured = measure_source(
        DataConfig(source=str(tmp_path)), views, recipe="mine", cores=2, seconds=0.05, gpu_rate=100.0
    )
    assert measured.images == 20
    assert measured.decode is not None
    assert measured.decode.seconds > 0
    assert list(measured.views) == ["fused", "exact"]
    for stages in measured.views.values():
        assert {stage.name for stage in stages} == {"convert", "crop", "flip", "normalize"}
        assert all(stage.seconds > 0 for stage in stages)
    assert [feed.name for feed in measured.feeds] == (["ray"] if varied else ["memory", "ray"])
    assert all(feed.images_per_s > 0 for feed in measured.feeds)
    assert bool(measured.notes) == varied


def test_digits_come_decoded_and_have_no_ray_feed() -> None:
    views = ViewsConfig.model_validate({"preset": "digits"})
    measured = measure_source(DataConfig(), views, recipe="digits", cores=1, seconds=0.02, gpu_rate=100.0)
    assert measured.decode is None
    assert [feed.name for feed in measured.feeds] == ["memory"]
    assert "the digits come decoded" in measured.notes[0]
