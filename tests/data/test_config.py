"""What may be written under `data:` and `views:`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from raysl.config.base import Config
from raysl.data import spec
from raysl.data.config import DataConfig, SelectionConfig, ViewsConfig
from raysl.data.presets import PRESETS


def test_the_configuration_needs_no_heavy_import() -> None:
    code = (
        "import sys, raysl.data.config; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'torchvision', 'ray', 'numpy', 'pyarrow', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_a_round_trip(preset: str) -> None:
    config = ViewsConfig(preset=preset)
    assert ViewsConfig.model_validate(config.to_dict()) == config


def test_fields_replace_those_of_the_preset() -> None:
    config = ViewsConfig.model_validate({"preset": "w_mse", "jitter": {"hue": 0.2}, "flip": None, "size": 64})
    assert config.jitter is not None
    assert (config.jitter.hue, config.jitter.brightness) == (0.2, 0.4)
    assert config.size == 64
    assert [name for name, _ in config.operations()] == ["jitter", "grayscale", "crop"]
    assert ViewsConfig.model_validate(config.to_dict()) == config
    assert ViewsConfig(preset="w_mse").flip is not None


def test_each_view_may_have_a_size_and_a_range_of_area_of_its_own() -> None:
    config = ViewsConfig(preset="intl_multicrop")
    assert config.crop is not None
    assert config.sizes() == (224, 224, 192, 160, 128, 96)
    assert [config.crop.scale_of(view) for view in (0, 1, 5)] == [(0.2, 1.0), (0.2, 1.0), (0.086, 0.429)]
    same = ViewsConfig.model_validate({"count": 3, "size": 32, "crop": {"scale": [0.1, 0.5]}})
    assert same.crop is not None
    assert same.sizes() == (32, 32, 32)
    assert same.crop.scale_of(2) == (0.1, 0.5)


def test_order_is_kept() -> None:
    config = ViewsConfig.model_validate({"preset": "w_mse", "order": ["crop", "flip", "jitter", "grayscale"]})
    assert [name for name, _ in config.operations()] == ["crop", "flip", "jitter", "grayscale"]


@pytest.mark.parametrize(
    ("views", "told"),
    [
        ({"preset": "wmse"}, "did you mean 'w_mse'"),
        ({"crop": {"scale": [0.9, 0.1]}}, "0.9 is above 0.1"),
        ({"crop": {"scale": [0, 1]}}, "greater than 0"),
        ({"crop": {"interpolation": "cubic"}}, "bicubic"),
        ({"blur": {"kernel": 4}}, "use 3 or 5"),
        ({"blur": {"p": [0.1, 0.2, 0.3]}}, "one for each of the 2 views"),
        ({"size": [32, 32, 16]}, "size needs one value, or one for each of the 2 views, not 3"),
        ({"size": [32, 2]}, "greater than or equal to 4"),
        ({"preset": "intl_multicrop", "count": 2}, "size needs one value, or one for each of the 2 views"),
        ({"crop": {"scale": [[0.2, 1]] * 3}}, "crop.scale needs one range, or one for each of the 2 views"),
        ({"crop": {"scale": [[0.2, 1], [0.9, 0.1]]}}, "0.9 is above 0.1"),
        ({"crop": {"scale": [[0.2, 1], [0.1]]}}, "Field required"),
        ({"flip": {"p": 1.5}}, "less than or equal to 1"),
        ({"order": ["crop", "crop"]}, "twice"),
        ({"preset": "w_mse", "blur": {}}, "blur is on but missing from order"),
        ({"preset": "w_mse", "jitters": {}}, "jitters"),
        ({"count": 0}, "greater than or equal to 1"),
        ({"preset": 3}, "valid string"),
        ("w_mse", "valid dictionary"),
    ],
)
def test_views_that_make_no_sense_are_refused(views: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ViewsConfig.model_validate(views)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"mean": [0.5]}, "give both"),
        ({"mean": [0.5, 0.5], "std": [1, 1]}, "1 or 3"),
        ({"mean": [0.5], "std": [1, 1, 1]}, "as many of each"),
        ({"mean": [120], "std": [60]}, "less than or equal to 1"),
        ({"std": [0], "mean": [0]}, "greater than 0"),
        ({"channels": 2}, "1 or 3"),
        ({"selection": {"fraction": 0.9}}, "less than or equal to 0.5"),
        ({"image_size": 1}, "greater than or equal to 4"),
        ({"souce": "digits"}, "souce"),
    ],
)
def test_data_that_makes_no_sense_is_refused(data: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DataConfig.model_validate(data)


def test_every_field_is_documented() -> None:
    candidates = [value for value in vars(spec).values() if isinstance(value, type)]
    models: list[type[Config]] = [DataConfig, SelectionConfig]
    models += [value for value in candidates if issubclass(value, Config)]
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
