"""Whole recipes: the same draws, operation after operation, by torchvision's own functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from raysl.data.config import ViewsConfig
from raysl.data.decoded import Ids, Normalization
from raysl.data.draws import key
from raysl.data.operations import OPERATIONS, Bools, Draws, Floats, Ints
from raysl.data.presets import PRESETS
from raysl.data.views import _VIEWS, ViewPipeline

from .made import MakeDecoded

_CHANGES: list[Callable[[Tensor, float], Tensor]] = [
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
]


class Torchvision:
    """One image that torchvision changes: see `raysl.data.operations.Changed`."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.x.shape
        return 1, channels, height, width

    def crop(self, boxes: Ints, size: tuple[int, int], interpolation: str, antialias: bool) -> None:
        box, kind = boxes[0].tolist(), InterpolationMode(interpolation)
        self.x = reference.resized_crop(self.x, *box, list(size), kind, antialias).clamp(0, 1)

    def shift(self, offsets: Ints, chosen: Bools) -> None:
        (down, right), (_, _, height, width) = offsets[0].tolist(), self.shape
        if chosen[0]:
            self.x = reference.crop(pad(self.x, (99, 99, 99, 99)), 99 - down, 99 - right, height, width)

    def flip(self, chosen: Bools) -> None:
        if chosen[0]:
            self.x = reference.horizontal_flip(self.x)

    def jitter(self, factors: Floats, order: Ints, chosen: Bools) -> None:
        for change in order[0].tolist() if chosen[0] else []:
            self.x = _CHANGES[change](self.x, float(factors[0, change]))

    def grayscale(self, chosen: Bools) -> None:
        if chosen[0]:
            self.x = reference.rgb_to_grayscale(self.x, num_output_channels=3)

    def blur(self, sigma: Floats, width: int, chosen: Bools) -> None:
        if chosen[0]:
            self.x = reference.gaussian_blur(self.x, [width, width], [float(sigma[0])] * 2)

    def solarize(self, threshold: float, chosen: Bools) -> None:
        if chosen[0]:
            self.x = reference.solarize(self.x, threshold)

    def equalize(self, chosen: Bools) -> None:
        if chosen[0]:
            self.x = reference.equalize(self.x)


@pytest.mark.parametrize("preset", sorted({*PRESETS} - {"none"}))
def test_exact_views_of_a_recipe_are_torchvisions(make_decoded: MakeDecoded, preset: str) -> None:
    channels = 1 if preset in ("gray", "digits") else 3
    data = make_decoded(12, (60, 72), channels=channels)
    given = ViewsConfig.model_validate({"preset": preset})
    size = [48 - 4 * view for view in range(given.count)] if isinstance(given.size, tuple) else 48
    fields = {
        "preset": preset,
        "size": size if given.crop else None,
        "evaluation": {"resize": 60, "crop": 48},
    }
    config = ViewsConfig.model_validate(fields)
    pipeline = ViewPipeline(config, Normalization((0.0,) * channels, (1.0,) * channels), data.size)
    images = torch.from_numpy(data.images.copy())
    for view, ours in enumerate(pipeline(images, data.ids, seed=3, epoch=4)):
        theirs = torch.stack(
            [
                _by_torchvision(config, image / 255, data.ids[row : row + 1], view, pipeline.sizes[view])
                for row, image in enumerate(images)
            ]
        )
        close = (ours - theirs).abs() < 1e-4
        assert close.float().mean() > 0.9999  # a value at solarize's threshold may be inverted by one alone
        if given.solarize is None:
            assert close.all()


def _by_torchvision(config: ViewsConfig, image: Tensor, ids: Ids, view: int, size: tuple[int, int]) -> Tensor:
    changed = Torchvision(image)
    for place, (name, op) in enumerate(config.operations()):
        OPERATIONS[name](changed, op, Draws(view, key(_VIEWS, 3, 4, view, place), ids), size)
    return changed.x


@pytest.mark.parametrize("colour", ["exact", "fused"])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_probability_of_0_is_never_and_of_1_always(
    make_decoded: MakeDecoded, colour: str, p: float
) -> None:
    data = make_decoded(6, (24, 32))
    names = ("flip", "jitter", "grayscale", "blur", "solarize", "equalize")
    whole = torch.from_numpy(data.images / np.float32(255))
    for name in names:
        op = {"p": p, "sigma": [1, 2]} if name == "blur" else {"p": p}
        config = ViewsConfig.model_validate({"order": [name], name: op, "colour": colour})
        pipeline = ViewPipeline(config, Normalization((0.0,) * 3, (1.0,) * 3), data.size)
        images = torch.from_numpy(data.images.copy())
        for seen in pipeline(images, data.ids, seed=0, epoch=0):
            changed = (seen - whole).abs().amax((1, 2, 3)) > 1e-5
            assert bool(changed.all()) if p else not bool(changed.any())
