"""The bits of a view depend on the image, the seed, the epoch and the view: on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from raysl.data import views as module
from raysl.data.config import ViewsConfig
from raysl.data.decoded import Decoded, Normalization
from raysl.data.grid import views_grid
from raysl.data.views import ViewPipeline
from raysl.errors import InputError

from .made import MakeDecoded

RGB = Normalization((0.4, 0.5, 0.45), (0.2, 0.25, 0.3))
SAME = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
EVERYTHING: dict[str, Any] = {
    "crop": {"scale": [0.2, 1.0], "interpolation": "bicubic"},
    "shift": {"pixels": 2},
    "flip": {},
    "jitter": {"p": 0.8},
    "grayscale": {"p": 0.3},
    "blur": {"p": [1.0, 0.4]},
    "solarize": {"p": [0.0, 0.5]},
    "size": 10,
}


def make(data: Decoded, config: dict[str, Any], normalization: Normalization = RGB) -> ViewPipeline:
    return ViewPipeline(ViewsConfig.model_validate(config), normalization, data.size)


def see(
    pipeline: ViewPipeline, data: Decoded, rows: Any = slice(None), seed: int = 1, epoch: int = 2
) -> list[Tensor]:
    images = torch.from_numpy(data.images[rows].copy())
    return pipeline(images, data.ids[rows], seed=seed, epoch=epoch)


@pytest.mark.parametrize("preset", ["everything", "w_mse", "simclr", "mec"])
@pytest.mark.parametrize("step", [1, 7])
def test_slices_of_a_batch_are_bit_equal(make_decoded: MakeDecoded, preset: str, step: int) -> None:
    data = make_decoded(64, (16, 14))
    config = EVERYTHING if preset == "everything" else {"preset": preset}
    pipeline = make(data, {**config, "size": 12} if preset == "mec" else config)
    whole = see(pipeline, data)
    parts = [see(pipeline, data, slice(start, start + step)) for start in range(0, 64, step)]
    for view, full in enumerate(whole):
        assert torch.equal(torch.cat([part[view] for part in parts]), full)


def test_order_of_a_batch_threads_and_chunks_change_no_bit(
    make_decoded: MakeDecoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_decoded(50, (40, 40))
    pipeline = make(data, {**EVERYTHING, "size": 36})
    whole = see(pipeline, data)
    shuffled = np.random.default_rng(0).permutation(50)
    threads = torch.get_num_threads()
    monkeypatch.setattr(module, "_CPU_CHUNK", 3 * 40 * 40 * 3)
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        again = see(pipeline, data, shuffled)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one[torch.from_numpy(shuffled)], other)


def test_views_images_epochs_and_seeds_differ(make_decoded: MakeDecoded) -> None:
    data = make_decoded(8)
    pipeline = make(data, {**EVERYTHING, "jitter": {"p": 1.0}})
    first, second = see(pipeline, data)
    for other in (second, see(pipeline, data, epoch=3)[0], see(pipeline, data, seed=2)[0]):
        assert ((first - other).abs().amax((1, 2, 3)) > 1e-3).all()
    same_image = Decoded(np.repeat(data.images[:1], 8, 0), None, data.ids)
    assert not torch.allclose(see(pipeline, same_image)[0][0], see(pipeline, same_image)[0][1], atol=1e-3)


def test_cast_comes_last(make_decoded: MakeDecoded) -> None:
    data = make_decoded(5)
    pipeline = make(data, EVERYTHING)
    images = torch.from_numpy(data.images.copy())
    doubles = pipeline(images, data.ids, seed=0, epoch=0, dtype=torch.float64)
    singles = pipeline(images, data.ids, seed=0, epoch=0)
    for double, single in zip(doubles, singles, strict=True):
        assert double.dtype == torch.float64
        assert torch.equal(double, single.double())


def test_probabilities_belong_to_views(make_decoded: MakeDecoded) -> None:
    data = make_decoded(400, (8, 8))
    pipeline = make(data, {"solarize": {"p": [0.0, 0.3], "threshold": 0.0}}, SAME)
    original = torch.from_numpy(data.images / np.float32(255))
    changed = [
        ((view - original).abs().amax((1, 2, 3)) > 1e-6).float().mean().item() for view in see(pipeline, data)
    ]
    assert changed[0] == 0
    assert abs(changed[1] - 0.3) < 5 * (0.3 * 0.7 / 400) ** 0.5


MULTICROP: dict[str, Any] = {
    **EVERYTHING,
    "count": 3,
    "size": [16, 12, 9],
    "crop": {"scale": [[0.3, 1.0], [0.2, 0.8], [0.05, 0.3]], "interpolation": "bicubic"},
    "blur": {"p": 0.9},
    "solarize": {"p": [0.0, 0.5, 1.0]},
}


def test_a_view_of_its_own_size_is_what_it_would_be_among_equals(make_decoded: MakeDecoded) -> None:
    data = make_decoded(12, (20, 18))
    mixed = see(make(data, MULTICROP), data)
    assert [tuple(view.shape[2:]) for view in mixed] == [(16, 16), (12, 12), (9, 9)]
    for view, (size, scale) in enumerate(zip(MULTICROP["size"], MULTICROP["crop"]["scale"], strict=True)):
        alone = {**MULTICROP, "size": size, "crop": {"scale": scale, "interpolation": "bicubic"}}
        assert torch.equal(see(make(data, alone), data)[view], mixed[view])


def test_slices_of_views_of_several_sizes_are_bit_equal(make_decoded: MakeDecoded) -> None:
    data = make_decoded(11, (20, 18))
    pipeline = make(data, MULTICROP)
    whole, parts = see(pipeline, data), [see(pipeline, data, slice(i, i + 3)) for i in range(0, 11, 3)]
    for view, full in enumerate(whole):
        assert torch.equal(torch.cat([part[view] for part in parts]), full)


def test_the_first_of_several_sizes_is_that_of_evaluation(make_decoded: MakeDecoded) -> None:
    data = make_decoded(3, (20, 18))
    images = torch.from_numpy(data.images.copy())
    pipeline = make(data, MULTICROP)
    assert pipeline.size == (16, 16)
    assert torch.equal(pipeline.plain(images), make(data, {**MULTICROP, "size": 16}).plain(images))
    assert not torch.equal(pipeline.plain(images), make(data, {**MULTICROP, "size": 18}).plain(images))


def test_without_a_crop_each_view_is_the_whole_image_at_its_size(make_decoded: MakeDecoded) -> None:
    data = make_decoded(3, (20, 20))
    images = torch.from_numpy(data.images.copy())
    given = see(make(data, {"size": [20, 10], "evaluation": {"crop": 20}}, SAME), data)
    torch.testing.assert_close(given[0], images / 255)
    expected = reference.resize(images / 255, [10], antialias=True)
    torch.testing.assert_close(given[1], expected, rtol=0, atol=3e-6)


def test_views_of_several_sizes_are_drawn_side_by_side(make_decoded: MakeDecoded) -> None:
    data = make_decoded(4, (20, 18))
    picture = views_grid(data, make(data, MULTICROP), rows=2)
    assert picture.shape == (2 * 16 + 2, 16 + 16 + 12 + 9 + 3 * 2, 3)
    assert (picture[9:16, -9:] == 255).all()  # below the smallest view
    assert (picture[:9, -9:] != 255).any()


def test_order_of_operations_is_part_of_the_recipe(make_decoded: MakeDecoded) -> None:
    data = make_decoded(16, (24, 24))
    fields = {"crop": {"scale": [0.1, 0.3]}, "jitter": {"p": 1.0, "brightness": 0, "saturation": 0, "hue": 0}}
    before = make(data, {**fields, "order": ["jitter", "crop"]})
    after = make(data, {**fields, "order": ["crop", "jitter"]})
    assert not torch.allclose(see(before, data)[0], see(after, data)[0], atol=1e-2)


def test_brightness_factors_are_uniform(make_decoded: MakeDecoded) -> None:
    grey = np.full((3000, 1, 4, 4), 100, np.uint8)
    data = Decoded(grey, None, np.arange(3000, dtype=np.uint64))
    config = {
        "count": 1,
        "jitter": {"p": 1.0, "brightness": 0.4, "contrast": 0, "saturation": 0.4, "hue": 0.1},
    }
    pipeline = make(data, config, Normalization((0.0,), (1.0,)))
    factor = np.sort(see(pipeline, data)[0][:, 0, 0, 0].double().numpy() / (100 / 255))
    distance = np.abs((factor - 0.6) / 0.8 - (np.arange(3000) + 0.5) / 3000).max()
    assert distance < 1.95 / 3000**0.5  # Kolmogorov-Smirnov, 0.1 %


def test_no_operations_leave_the_image(make_decoded: MakeDecoded) -> None:
    data = make_decoded(3)
    pipeline = make(data, {"preset": "none", "count": 3})
    expected = torch.from_numpy(data.images.copy()).div(255)
    expected = reference.normalize(expected, list(RGB.mean), list(RGB.std))
    for view in see(pipeline, data):
        assert torch.equal(view, expected)


def test_evaluation_view_is_resize_and_centre_crop(make_decoded: MakeDecoded) -> None:
    data = make_decoded(3, (16, 16))
    images = torch.from_numpy(data.images.copy())
    pipeline = make(data, {"size": 16, "evaluation": {"resize": 20, "interpolation": "bicubic"}}, SAME)
    expected = reference.resize(images / 255, [20], reference.InterpolationMode.BICUBIC, antialias=True)
    expected = reference.center_crop(expected.clamp(0, 1), [16])
    torch.testing.assert_close(pipeline.plain(images), expected, rtol=0, atol=3e-6)


def test_stored_images_of_another_shape_are_brought_to_size(make_decoded: MakeDecoded) -> None:
    data = make_decoded(3, (12, 18))
    pipeline = make(data, {"size": 8, "flip": {"p": 0.0}}, SAME)
    images = torch.from_numpy(data.images.copy())
    expected = reference.center_crop(reference.resize(images / 255, [8], antialias=True), [8])
    torch.testing.assert_close(pipeline.plain(images), expected, rtol=0, atol=3e-6)
    torch.testing.assert_close(see(pipeline, data)[0], expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"blur": {"kernel": 99}}, "at most 23"),
        ({"blur": {"kernel": 19}, "size": [12, 9]}, "views of 9 pixels; at most 17"),
        (
            {"order": ["blur", "crop"], "blur": {"kernel": 25}, "crop": {}, "size": 40},
            "images of 12 pixels; at most 23",
        ),
        ({"evaluation": {"resize": 8, "crop": 10}}, "set resize >= crop"),
        ({"shift": {"pixels": 12}}, "no pixel of views of 12 pixels; at most 11"),
        (
            {"order": ["shift", "crop"], "shift": {"pixels": 20}, "crop": {}, "size": 40},
            "images of 12.*most 11",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make_decoded: MakeDecoded, config: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make(make_decoded(2), config)


def test_a_blur_of_a_single_pixel_is_refused() -> None:
    config = ViewsConfig.model_validate({"blur": {}})
    with pytest.raises(InputError, match=r"views of 1 pixel; set views\.blur: null"):
        ViewPipeline(config, RGB, (1, 9))


def test_a_blur_before_the_crop_meets_whole_images(make_decoded: MakeDecoded) -> None:
    data = make_decoded(2)
    small = {"order": ["blur", "crop"], "blur": {"kernel": 19, "p": 1.0}, "crop": {}, "size": 6}
    assert see(make(data, small), data)[0].shape == (2, 3, 6, 6)


def test_images_of_another_size_are_refused(make_decoded: MakeDecoded) -> None:
    with pytest.raises(InputError, match=r"9x8 among images of 12x12.*data\.image_size"):
        make(make_decoded(2), {}).plain(torch.zeros(1, 3, 8, 9, dtype=torch.uint8))


def test_statistics_of_other_channels_are_refused(make_decoded: MakeDecoded) -> None:
    data = make_decoded(2, channels=1)
    with pytest.raises(InputError, match=r"1 channel.*mean 3 value"):
        see(make(data, {}), data)
