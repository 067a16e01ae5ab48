"""Same parameters in, same pixels out as torchvision's own functions on float images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from raysl.data import colour
from raysl.data.config import CropConfig
from raysl.data.draws import key, uniform
from raysl.data.operations import crop_boxes, default_kernel
from raysl.data.resample import gaussian_blur, resized_crop, shift_pixels

# Two float32 roundings of values up to 1 lie this far apart after a handful of operations.
CLOSE = 3e-6


@pytest.fixture
def images() -> Tensor:
    x = torch.rand(6, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    x[0] = 0.5  # grey: no hue
    x[1, :, :10] = 0  # black
    x[2, 0] = x[2, 1]  # two channels tie for the maximum or minimum
    x[3] = (x[3] > 0.5).float()  # saturated primaries
    return x


def each(x: Tensor, function: Callable[[Tensor, float], Tensor], values: list[float]) -> Tensor:
    return torch.stack([function(image, value) for image, value in zip(x, values, strict=True)])


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (colour.brightness_, reference.adjust_brightness, [0.0, 0.3, 0.8, 1.0, 1.4, 2.0]),
        (colour.contrast_, reference.adjust_contrast, [0.0, 0.3, 0.8, 1.0, 1.4, 2.0]),
        (colour.saturation_, reference.adjust_saturation, [0.0, 0.3, 0.8, 1.0, 1.4, 2.0]),
        (colour.hue_, reference.adjust_hue, [-0.5, -0.2, 0.0, 0.1, 0.3, 0.5]),
    ],
)
def test_colour_changes_are_torchvisions(
    images: Tensor,
    ours: Callable[[Tensor, Tensor], None],
    theirs: Callable[[Tensor, float], Tensor],
    values: list[float],
) -> None:
    changed = images.clone()
    ours(changed, torch.tensor(values))
    torch.testing.assert_close(changed, each(images, theirs, values), rtol=0, atol=CLOSE)


def test_contrast_of_one_channel_uses_its_own_mean() -> None:
    x = torch.rand(3, 1, 9, 7)
    changed = x.clone()
    colour.contrast_(changed, torch.tensor([0.2, 1.0, 1.8]))
    expected = each(x, reference.adjust_contrast, [0.2, 1.0, 1.8])
    torch.testing.assert_close(changed, expected, rtol=0, atol=CLOSE)


def test_grayscale_and_solarize_are_torchvisions(images: Tensor) -> None:
    torch.testing.assert_close(colour.luma(images), reference.rgb_to_grayscale(images), rtol=0, atol=CLOSE)
    assert torch.equal(colour.solarize(images, 0.5), reference.solarize(images, 0.5))


def test_jitter_runs_the_changes_in_each_images_own_order(images: Tensor) -> None:
    factors = np.array([[0.7, 1.3, 0.6, 0.1]] * 6) + np.arange(6)[:, None] * 0.02
    order = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1], [0, 3, 1, 2], [1, 2, 3, 0]])
    chosen = np.array([True, True, True, True, True, False])
    before = images.clone()
    theirs = [
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    ]
    expected = images.clone()
    for n in np.flatnonzero(chosen):
        for change in order[n]:
            expected[n] = theirs[change](expected[n], float(factors[n, change]))
    changed = colour.jitter(images, factors, order, chosen)
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-5)
    assert torch.equal(images, before)
    reordered = colour.jitter(images, factors, order[::-1].copy(), chosen)
    assert not torch.allclose(changed[4], reordered[4], atol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (64, 50)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
def test_crop_and_resize_are_torchvisions(
    images: Tensor, size: tuple[int, int], interpolation: str, antialias: bool
) -> None:
    boxes = np.array(
        [[0, 0, 40, 50], [3, 4, 20, 30], [10, 5, 30, 40], [39, 49, 1, 1], [0, 20, 7, 9], [5, 0, 33, 3]]
    )
    expected = torch.stack(
        [
            reference.resized_crop(image, *box, list(size), InterpolationMode(interpolation), antialias)
            for image, box in zip(images, boxes.tolist(), strict=True)
        ]
    )
    ours = resized_crop(images, boxes, size, interpolation, antialias)
    torch.testing.assert_close(ours, expected.clamp(0, 1), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("width", [3, 23])
def test_blur_is_torchvisions(images: Tensor, width: int) -> None:
    sigma = np.array([0.1, 0.5, 1.0, 2.0, 3.0, 0.3])
    expected = torch.stack(
        [
            reference.gaussian_blur(image, [width, width], [s, s])
            for image, s in zip(images, sigma.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(gaussian_blur(images, sigma, width), expected, rtol=0, atol=CLOSE)


def test_default_kernel_is_a_tenth_of_the_image_and_odd() -> None:
    assert [default_kernel(size) for size in (8, 32, 64, 224)] == [3, 3, 7, 23]


def test_shift_is_pad_and_crop(images: Tensor) -> None:
    offsets = np.array([[0, 0], [1, 0], [0, -2], [3, 3], [-40, 0], [-1, 2]])
    padded = torch.nn.functional.pad(images, (50, 50, 50, 50))
    expected = torch.stack(
        [
            image[:, 50 - dy : 90 - dy, 50 - dx : 100 - dx]
            for image, (dy, dx) in zip(padded, offsets.tolist(), strict=True)
        ]
    )
    assert torch.equal(shift_pixels(images, offsets), expected)


def draws(count: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return uniform(key(1), np.arange(count, dtype=np.uint64), columns)


def test_crop_boxes_have_the_distribution_of_random_resized_crop() -> None:
    config = CropConfig(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3))
    boxes = crop_boxes(draws(20000, 22), 64, 64, config)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 64).all()
    assert (left + width <= 64).all()
    share = height * width / 64**2
    ratio = width / height
    assert share.min() > 0.19
    assert share.max() <= 1
    assert ratio.min() > 0.73
    assert ratio.max() < 1.37
    # The reference: torchvision's own sampler.
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    blank = torch.zeros(1, 64, 64)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    for ours, other in zip(boxes.T, theirs.T, strict=True):
        quantiles = np.linspace(0.05, 0.95, 10)
        assert np.abs(np.quantile(ours, quantiles) - np.quantile(other, quantiles)).max() <= 2


def test_a_crop_has_a_pixel_at_least() -> None:
    config = CropConfig(scale=(0.2, 1.0), ratio=(0.1, 0.2))
    assert (crop_boxes(draws(5, 22), 1, 1, config) == [0, 0, 1, 1]).all()


def test_crop_falls_back_to_the_largest_centred_box() -> None:
    config = CropConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    boxes = crop_boxes(draws(5, 22), 20, 60, config)  # a square of the image's area does not fit
    assert (boxes == [0, 20, 20, 20]).all()
