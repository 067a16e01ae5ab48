"""`views.colour: fused`: the colours of `exact` as one matrix for each image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from raysl.data import views as module
from raysl.data.bands import Scratch, blur
from raysl.data.config import ViewsConfig
from raysl.data.crops import crop_bytes, crop_each
from raysl.data.decoded import Decoded, Normalization
from raysl.data.fused import jitter_maps
from raysl.data.resample import gaussian_kernels
from raysl.data.views import ViewPipeline

from .made import MakeDecoded, pictures

RGB = Normalization((0.4, 0.5, 0.45), (0.2, 0.25, 0.3))
SAME = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# A level of 8 bits, and float32's rounding of what follows.
LEVEL = 1.001 / 255
EVERYTHING: dict[str, Any] = {
    "crop": {"scale": [0.2, 1.0], "interpolation": "bicubic"},
    "shift": {"pixels": 2},
    "flip": {},
    "jitter": {"p": 0.8},
    "grayscale": {"p": 0.3},
    "blur": {"p": [1.0, 0.4], "kernel": 7},
    "solarize": {"p": [0.0, 0.5]},
    "equalize": {"p": 0.3},
    "size": 10,
}


def see(
    data: Decoded, config: dict[str, Any], colour: str = "fused", rows: Any = slice(None), **more: Any
) -> list[Tensor]:
    chosen = ViewsConfig.model_validate({**config, "colour": colour})
    pipeline = ViewPipeline(chosen, more.get("normalization", RGB), data.size)
    images = torch.from_numpy(data.images[rows].copy())
    return pipeline(images, data.ids[rows], seed=1, epoch=2)


def mild(data: Decoded) -> Decoded:
    """Return images whose values stay away from black and white, where nothing is clamped."""
    return Decoded((data.images // 4 + 96).astype(np.uint8), None, data.ids)


@pytest.mark.parametrize("preset", ["everything", "w_mse", "simclr", "mec"])
@pytest.mark.parametrize("size", [(16, 14), (90, 80)])
def test_slices_order_and_chunks_change_no_bit(
    make_decoded: MakeDecoded, monkeypatch: pytest.MonkeyPatch, preset: str, size: tuple[int, int]
) -> None:
    data = make_decoded(24, size)
    config = EVERYTHING if preset == "everything" else {"preset": preset}
    config = {**config, "size": 12 if size[0] < 20 else 80}
    whole = see(data, config)
    for workers in (2, 4, 24):
        parts = [see(data, config, rows=slice(first, None, workers)) for first in range(workers)]
        for view, full in enumerate(whole):
            for first, part in enumerate(parts):
                assert torch.equal(part[view], full[first::workers])
    shuffled = np.random.default_rng(0).permutation(24)
    monkeypatch.setattr(module, "_CPU_CHUNK", 5 * 3 * size[0] * size[1])
    for one, other in zip(whole, see(data, config, rows=shuffled), strict=True):
        assert torch.equal(one[torch.from_numpy(shuffled)], other)


def test_threads_that_share_a_pipeline_do_not_share_its_memory(make_decoded: MakeDecoded) -> None:
    data = make_decoded(16)
    pipeline = ViewPipeline(ViewsConfig.model_validate({**EVERYTHING, "colour": "fused"}), RGB, data.size)
    images, ids, interrupted = torch.from_numpy(data.images.copy()), data.ids, list[str]()

    def make(rows: slice) -> list[Tensor]:
        return pipeline(images[rows], ids[rows], seed=1, epoch=2)

    def interrupt(name: str) -> None:
        """Make other images' views in another thread, between two operations of the first ones'."""
        pipeline.watch = str
        with ThreadPoolExecutor(1) as pool:
            pool.submit(make, slice(8, 16)).result()
        interrupted.append(name)
        pipeline.watch = interrupt

    alone = make(slice(8))
    pipeline.watch = interrupt
    for one, other in zip(make(slice(8)), alone, strict=True):
        assert torch.equal(one, other)
    assert "blur" in interrupted


@pytest.mark.parametrize("name", ["blur", "solarize", "equalize", "shift"])
def test_a_crop_rounds_the_same_whoever_was_changed_before_it(make_decoded: MakeDecoded, name: str) -> None:
    data = make_decoded(8)
    config = {"order": [name, "crop"], name: {"p": 0.5}, "crop": {}}
    whole = see(data, config)
    for row in range(8):
        for one, view in zip(see(data, config, rows=slice(row, row + 1)), whole, strict=True):
            assert torch.equal(one[0], view[row])


def test_without_clamps_only_the_hue_differs_from_exact(make_decoded: MakeDecoded) -> None:
    data = mild(make_decoded(40, (16, 16)))
    jitter = {"p": 0.9, "brightness": 0.2, "contrast": 0.3, "saturation": 0.4, "hue": 0.0}
    for order in (["jitter", "grayscale", "blur", "flip"], ["blur", "grayscale", "flip", "jitter"]):
        config = {"order": order, "jitter": jitter, "grayscale": {"p": 0.2}, "blur": {}, "flip": {}}
        for one, other in zip(see(data, config), see(data, config, "exact"), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=3e-5)  # weights beyond 4 standard deviations
    jitter["hue"] = 0.1
    hued = [see(data, {"jitter": jitter}, colour)[0] for colour in ("fused", "exact")]
    assert 1e-3 < (hued[0] - hued[1]).abs().mean() < 0.1


def test_solarized_and_equalized_images_get_their_colours_first(make_decoded: MakeDecoded) -> None:
    data = mild(make_decoded(30, (12, 12)))
    jitter = {"p": 1.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.0}
    config = {"order": ["jitter", "solarize", "shift"], "jitter": jitter}
    config |= {"solarize": {"p": 0.5}, "shift": {"pixels": 3, "p": 0.5}}
    for one, other in zip(see(data, config), see(data, config, "exact"), strict=True):
        # A value at the threshold may be inverted on one side of it alone.
        assert ((one - other).abs() < 1e-4).float().mean() > 0.999
    first = {"order": ["equalize", "flip"], "equalize": {"p": 0.5}, "flip": {}}
    for one, other in zip(see(data, first), see(data, first, "exact"), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_values_are_clamped_to_the_range_of_pixels(make_decoded: MakeDecoded) -> None:
    data = make_decoded(20)
    config = {"jitter": {"p": 1.0, "brightness": 2.0, "contrast": 2.0, "hue": 0.5}}
    view = see(data, config, normalization=SAME)[0]
    assert view.min() == 0
    assert view.max() == 1
    normalised = see(data, config)[0] * torch.tensor(RGB.std).view(3, 1, 1) + torch.tensor(RGB.mean).view(
        3, 1, 1
    )
    torch.testing.assert_close(normalised, view, rtol=0, atol=1e-6)


def test_hue_keeps_grey_and_luma_and_turns_the_way_of_hsv() -> None:
    turn = np.linspace(-0.5, 0.5, 21)
    factors = np.stack([np.ones(21), np.ones(21), np.ones(21), turn], axis=1)
    matrix, offset = jitter_maps(np.zeros((21, 3)), factors, np.full((21, 1), 3))
    assert not offset.any()
    assert np.allclose(matrix @ np.ones(3), 1)
    assert np.allclose(np.array([0.299, 0.587, 0.114]) @ matrix, [0.299, 0.587, 0.114])
    assert np.allclose(matrix[10], np.eye(3))
    assert np.allclose(matrix[15] @ matrix[15], matrix[20])
    colours = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).view(200, 3, 1, 1) * 0.2 + 0.4
    hsv = torch.stack([reference.adjust_hue(c, 0.05) for c in colours])[..., 0, 0] - colours[..., 0, 0]
    ours = torch.from_numpy(matrix[11]).float() @ colours[..., 0] - colours[..., 0]
    similarity = torch.nn.functional.cosine_similarity(ours[..., 0], hsv, dim=1)
    assert similarity.mean() > 0.6  # HSV changes the luma too; the other way round it is negative


def test_contrast_takes_the_mean_luma_at_its_turn(make_decoded: MakeDecoded) -> None:
    data = mild(make_decoded(6, (9, 7)))
    x = torch.from_numpy(data.images.astype(np.float64)) / 255
    factors, order = np.tile([1.2, 0.6, 0.5, 0.0], (6, 1)), np.tile([0, 2, 1], (6, 1))
    matrix, offset = jitter_maps(x.mean((2, 3)).numpy(), factors, order)
    ours = (
        torch.einsum("nij,njhw->nihw", torch.from_numpy(matrix), x)
        + torch.from_numpy(offset)[..., None, None]
    )
    theirs = reference.adjust_contrast(
        reference.adjust_saturation(reference.adjust_brightness(x, 1.2), 0.5), 0.6
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (8, 24), (90, 70)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
def test_crops_of_bytes_are_torchvisions(size: tuple[int, int], interpolation: str, antialias: bool) -> None:
    x = torch.from_numpy(np.stack([p.transpose(2, 0, 1) for p in pictures(5, (40, 50))]))
    boxes = np.array([[0, 0, 40, 50], [3, 4, 20, 30], [39, 49, 1, 1], [0, 20, 7, 9], [5, 0, 33, 3]])
    kind = InterpolationMode(interpolation)
    theirs = torch.stack(
        [
            reference.resized_crop(image, *box, list(size), kind, antialias)
            for image, box in zip(x, boxes.tolist(), strict=True)
        ]
    )
    each = crop_each(list(x), boxes, size, interpolation, antialias)
    assert torch.equal(each, theirs)
    batch = crop_bytes(x, boxes, size, interpolation, antialias)
    # torch rounds to bytes between the axes too, and adds integers.
    assert (batch.int() - theirs.int()).abs().max() <= (1 if interpolation == "bilinear" else 2)
    assert ((batch.int() - theirs.int()).abs() > 1).float().mean() < 1e-3


@pytest.mark.parametrize(("size", "width"), [((40, 50), 3), ((70, 33), 11), ((12, 12), 23)])
def test_blur_is_torchvisions(size: tuple[int, int], width: int) -> None:
    x = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    sigma = np.array([0.1, 0.7, 1.5, 2.0])
    theirs = [
        reference.gaussian_blur(i, [width, width], [s, s]) for i, s in zip(x, sigma.tolist(), strict=True)
    ]
    ours = blur(x, gaussian_kernels(sigma, width), Scratch())
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=0, atol=3e-6)


@pytest.mark.parametrize("colour", ["exact", "fused"])
def test_crops_cut_elsewhere_make_the_same_views(make_decoded: MakeDecoded, colour: str) -> None:
    data = make_decoded(9, (50, 44))
    config = ViewsConfig.model_validate({"preset": "mec", "size": 24, "colour": colour})
    pipeline = ViewPipeline(config, SAME, data.size)
    images, shapes = torch.from_numpy(data.images.copy()), np.tile(data.size, (9, 1))
    assert config.crop is not None
    crops = [
        crop_bytes(images, boxes, (24, 24), config.crop.interpolation)
        for boxes in pipeline.boxes(shapes, data.ids, seed=1, epoch=2)
    ]
    cut = pipeline.of_crops(crops, data.ids, seed=1, epoch=2)
    for one, other in zip(cut, pipeline(images, data.ids, seed=1, epoch=2), strict=True):
        if colour == "fused":
            assert torch.equal(one, other)
        else:
            assert (one - other).abs().mean() < LEVEL


def test_boxes_of_images_of_several_sizes_are_their_own(make_decoded: MakeDecoded) -> None:
    shapes, ids = np.array([[50, 44], [12, 80], [300, 20]]), np.arange(3, dtype=np.uint64)
    config = ViewsConfig.model_validate({"preset": "mec", "size": 24})
    together = ViewPipeline(config, SAME, (50, 44)).boxes(shapes, ids, seed=0, epoch=1)
    for row in range(3):
        alone = ViewPipeline(config, SAME, (50, 44)).boxes(
            shapes[row : row + 1], ids[row : row + 1], seed=0, epoch=1
        )
        for view, boxes in enumerate(together):
            assert np.array_equal(alone[view][0], boxes[row])
    for boxes in together:
        assert (boxes[:, :2] + boxes[:, 2:] <= shapes).all()
        assert (boxes[:, 2:] >= 1).all()


def test_views_that_colour_first_have_no_crops_to_cut(make_decoded: MakeDecoded) -> None:
    data = make_decoded(2)
    pipeline = ViewPipeline(ViewsConfig.model_validate({"preset": "w_mse"}), RGB, data.size)
    assert not pipeline.crops_first
    with pytest.raises(ValueError, match="before they crop"):
        pipeline.boxes(np.array([[12, 12]]), data.ids[:1], seed=0, epoch=0)


@pytest.mark.parametrize("size", [12, 60])
def test_one_channel(make_decoded: MakeDecoded, size: int) -> None:
    grey = make_decoded(20, (size, size), channels=1)
    single = Normalization((0.5,), (0.25,))
    fused = see(grey, {"preset": "gray"}, normalization=single)
    exact = see(grey, {"preset": "gray"}, "exact", normalization=single)
    for one, other in zip(fused, exact, strict=True):
        assert one.shape == (20, 1, size, size)
        assert 0 < (one - other).abs().mean() < 0.25
