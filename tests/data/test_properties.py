"""What holds for any size, mode and order, and for encoded images that are damaged anywhere."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from raysl.data import colour
from raysl.data.config import CropConfig, DataConfig, JitterConfig, ViewsConfig
from raysl.data.decode import decode_image
from raysl.data.decoded import Normalization, normalization
from raysl.data.draws import key
from raysl.data.operations import Draws, crop_boxes, draw_boxes, draw_jitter, draw_shift
from raysl.data.presets import PRESETS
from raysl.data.views import ViewPipeline

from .made import MakeDecoded, encode, pictures

quick = settings(
    max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
NAMES = ("crop", "shift", "flip", "jitter", "grayscale", "blur", "solarize", "equalize")


def draws(count: int, stream: int = 1) -> Draws:
    return Draws(0, key(stream), np.arange(count, dtype=np.uint64))


@settings(quick, max_examples=40)
@given(st.data())
def test_any_views_are_finite_of_their_size_and_the_same_alone(data: st.DataObject) -> None:
    channels = data.draw(st.sampled_from([1, 3]))
    height, width = data.draw(st.integers(4, 70)), data.draw(st.integers(4, 70))
    order = data.draw(st.permutations(NAMES))
    on = data.draw(st.sets(st.sampled_from(NAMES)))
    fields: dict[str, Any] = {name: {} for name in on}
    if "crop" in on:
        kind = data.draw(st.sampled_from(["bilinear", "bicubic"]))
        fields["crop"] = {"interpolation": kind, "antialias": data.draw(st.booleans())}
    if "shift" in on:
        fields["shift"] = {"pixels": 3}
    sizes = data.draw(st.lists(st.integers(4, 70), min_size=2, max_size=2))
    fields |= {"order": list(order), "size": sizes, "colour": data.draw(st.sampled_from(["exact", "fused"]))}
    pipeline = ViewPipeline(
        ViewsConfig.model_validate(fields),
        Normalization((0.5,) * channels, (0.25,) * channels),
        (height, width),
    )
    shape = (3, channels, height, width)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    before, ids = images.clone(), np.array([5, 0, 2**63], np.uint64)
    views = pipeline(images, ids, seed=3, epoch=1)
    assert torch.equal(images, before)
    for view, size in zip(views, sizes, strict=True):
        assert view.shape == (3, channels, size, size)
        assert view.abs().max() <= 2.0 + 1e-5  # pixels are in [0, 1]
    for row in range(3):
        alone = pipeline(images[row : row + 1], ids[row : row + 1], seed=3, epoch=1)
        for one, view in zip(alone, views, strict=True):
            assert torch.equal(one[0], view[row])


@quick
@given(
    st.integers(1, 3000), st.integers(1, 3000),
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)), st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
)  # fmt: skip
def test_crop_boxes_lie_within_any_image(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    low, high = sorted(ratio)
    config = CropConfig(scale=(min(scale), max(scale)), ratio=(low, high))
    boxes = draw_boxes(config, draws(50), height, width)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [height, width]).all()
    assert np.array_equal(boxes, draw_boxes(config, draws(50), np.full(50, height), np.full(50, width)))


@quick
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 256), st.integers(0, 2**32 - 1))
def test_equalize_is_pils_and_torchvisions(height: int, width: int, values: int, number: int) -> None:
    random = np.random.default_rng(number)
    palette = random.integers(0, 256, values)
    images = palette[random.integers(0, values, (2, 3, height, width))].astype(np.uint8)
    ours = colour.equalize(torch.from_numpy(images))
    assert torch.equal(ours, reference.equalize(torch.from_numpy(images)))
    for image, expected in zip(images, ours.numpy(), strict=True):
        pil = np.asarray(ImageOps.equalize(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))))
        assert np.array_equal(pil.transpose(2, 0, 1), expected)


def test_equalize_of_floats_is_torchvisions(make_decoded: MakeDecoded) -> None:
    images = torch.from_numpy(make_decoded(4, (20, 24)).images.copy()) / 255
    ours = colour.equalize(colour.to_bytes(images)).float() / 255
    torch.testing.assert_close(ours, reference.equalize(images), rtol=0, atol=1e-6)


def test_crop_boxes_are_random_resized_crops() -> None:
    boxes = draw_boxes(CropConfig(scale=(0.2, 1.0)), draws(4000), 224, 300)
    blank = torch.zeros(1, 224, 300)
    torch.manual_seed(0)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    for ours, other in zip(boxes.T, theirs.T, strict=True):
        assert stats.ks_2samp(ours, other).pvalue > 1e-3
    for axis, size in ((0, 224), (1, 300)):
        free = size - boxes[:, axis + 2] + 1
        place = (boxes[:, axis] + 0.5) / free
        assert stats.kstest(place[free > 40], "uniform").pvalue > 1e-3
    assert stats.ks_2samp(draw_boxes(CropConfig(), draws(4000, 2), 224, 300)[:, 3], boxes[:, 3]).pvalue > 1e-3


def test_factors_are_uniform_and_orders_equally_frequent() -> None:
    config = JitterConfig(brightness=0.4, contrast=0.8, saturation=0.2, hue=0.1)
    factors, order, chosen = draw_jitter(config, draws(6000), 3)
    ranges = [(0.6, 1.4), (0.2, 1.8), (0.8, 1.2), (-0.1, 0.1)]
    for column, (low, high) in zip(factors.T, ranges, strict=True):
        assert stats.kstest((column - low) / (high - low), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(factors.T) - np.eye(4)).max() < 5 / 6000**0.5
    counts = np.unique(order @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.binomtest(int(chosen.sum()), 6000, 0.8).pvalue > 1e-3
    assert np.isin(draw_jitter(config, draws(100), 1)[1], [0, 1]).all()


def test_shifts_are_equally_frequent() -> None:
    config = ViewsConfig.model_validate({"preset": "pad_crop_flip"}).shift
    assert config is not None
    offsets, chosen = draw_shift(config, draws(8100))
    assert chosen.all()
    counts = np.unique(offsets @ [9, 1], return_counts=True)[1]
    assert len(counts) == 81
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_box_that_never_fits_is_the_largest_of_an_allowed_ratio() -> None:
    boxes = crop_boxes(
        draws(2).uniform(22), np.array([20, 60]), np.array([60, 20]), CropConfig(scale=(1, 1), ratio=(1, 1))
    )
    assert boxes.tolist() == [[0, 20, 20, 20], [20, 0, 20, 20]]


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("kind", ["exact", "fused"])
def test_every_preset_makes_views(make_decoded: MakeDecoded, preset: str, kind: str) -> None:
    config = ViewsConfig.model_validate({"preset": preset, "colour": kind})
    size = [24 - 2 * view for view in range(config.count)] if isinstance(config.size, tuple) else 24
    small = {"preset": preset, "colour": kind, "size": size, "evaluation": {"resize": 26, "crop": 24}}
    channels = 1 if preset in ("gray", "digits") else 3
    data = make_decoded(3, (28, 26), channels=channels)
    norm = normalization(DataConfig(), data)
    pipeline = ViewPipeline(ViewsConfig.model_validate(small), norm, data.size)
    views = pipeline(torch.from_numpy(data.images.copy()), data.ids, seed=0, epoch=0)
    assert len(views) == config.count
    assert all(view.isfinite().all() for view in views)


def test_the_papers_have_presets() -> None:
    papers = {"mec", "w_mse", "w_mse_imagenet100", "cw_rgp", "intl", "intl_multicrop", "intl_cifar", "mv_mr"}
    assert papers | {"simclr", "pad_crop_flip", "gray", "digits", "none"} <= set(PRESETS)
    assert {ViewsConfig.model_validate({"preset": name}).colour for name in PRESETS} == {"exact"}


def test_automatic_statistics_replace_a_recipes(make_decoded: MakeDecoded) -> None:
    data = make_decoded(5)
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.2, 0.2, 0.2]}
    auto = DataConfig.model_validate({**given, "stats": "auto"})
    assert auto.mean is None
    assert normalization(auto, data) == data.statistics
    assert normalization(DataConfig.model_validate(given), data).mean == (0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match="auto"):
        DataConfig.model_validate({"stats": "mean"})


SEEDS = [
    encode(pixels, kind, mode)
    for pixels, (kind, mode) in zip(
        pictures(5, (24, 20)),
        [("JPEG", None), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("GIF", "L")],
        strict=True,
    )
]


@seed(0)
@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_damaged_bytes_give_an_image_or_an_exception(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(0, len(encoded) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat"])):
            case "flip" if encoded:
                encoded[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del encoded[at:]
            case "insert":
                encoded[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "drop":
                del encoded[at : at + data.draw(st.integers(1, 64))]
            case "repeat":
                encoded[at:at] = encoded[at : at + 64]
    # A header may announce an enormous image; PIL refuses what is larger than this.
    size, channels = data.draw(st.sampled_from([None, 16])), data.draw(st.sampled_from([1, 3]))
    try:
        with Image.open(io.BytesIO(bytes(encoded))) as image:
            if image.size[0] * image.size[1] > 10**6:
                return
        pixels, _ = decode_image(bytes(encoded), channels, size)
    except Exception:  # any exception is an answer: `Decoder` names the image and stops, workers go on
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] == channels
    assert pixels.ndim == 3
    assert size is None or pixels.shape[1:] == (size, size)
