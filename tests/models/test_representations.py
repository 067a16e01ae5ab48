"""Fixed representations against plain formulations: pixel by pixel, filter by filter."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysl.errors import InputError
from raysl.models.representations import Representation, RepresentationOptions, of_augmented, represent
from raysl.models.representations.local import (
    cosine_transform,
    gradient_histograms,
    local_std,
    split_patches,
)
from raysl.models.representations.scattering import scattering_transform

OPTIONS = RepresentationOptions(hog_pool=4, patches=2, scattering_scales=2, scattering_angles=4)


def _images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _plain_histograms(x: Tensor, bins: int, pool: int) -> Tensor:
    """One vote after the other."""
    height, width = x.shape
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=x.dtype)
    out = torch.zeros(bins, height // pool, width // pool, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            part = padded[i : i + 3, j : j + 3]
            gx, gy = float((part * sobel).sum()), float((part * sobel.T).sum())
            magnitude, p = math.hypot(gx, gy), bins * math.atan2(gx, gy) / math.pi
            lower = math.floor(p)
            out[lower % bins, i // pool, j // pool] += (1 - (p - lower)) * magnitude
            out[(lower + 1) % bins, i // pool, j // pool] += (p - lower) * magnitude
    return out / pool**2


def test_gradient_histograms_count_votes_between_two_bins() -> None:
    x = _images(2, 2, 8, 12)
    made = gradient_histograms(x, bins=5, pool=4)
    assert made.shape == (2, 2, 5, 2, 3)
    expected = torch.stack(
        [torch.stack([_plain_histograms(x[n, c], 5, 4) for c in range(2)]) for n in range(2)]
    )
    torch.testing.assert_close(made, expected, rtol=1e-10, atol=1e-12)


def test_flat_pixels_vote_only_in_the_authors_form() -> None:
    flat = torch.full((1, 1, 8, 8), 0.5)
    framed = torch.nn.functional.pad(flat, (8, 8, 8, 8), value=0.5)
    assert gradient_histograms(framed, 6, 8)[0, 0, :, 1, 1].abs().max() == 0
    authors = gradient_histograms(framed, 6, 8, reference_exact=True)[0, 0, :, 1, 1]
    assert authors.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_an_edge_votes_in_the_bin_of_its_direction() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1.0
    down = gradient_histograms(x, 4, 8)[0, 0, :, 0, 0]
    across = gradient_histograms(x.mT, 4, 8)[0, 0, :, 0, 0]
    # The frame is black, so that the right and the lower half have edges there too.
    assert down.argmax() == 2
    assert across.argmax() == 0


def test_local_std_is_that_of_nine_pixels() -> None:
    x = _images(2, 3, 5, 6)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).std(dim=-1, correction=0)
    torch.testing.assert_close(local_std(x), (expected**2 + 1e-8).sqrt(), rtol=1e-10, atol=0)
    constant = local_std(torch.full((1, 1, 4, 4), 1e3))
    assert float(constant.max()) == pytest.approx(1e-4)


def test_local_std_keeps_a_nan() -> None:
    x = _images(1, 1, 5, 5)
    x[0, 0, 2, 2] = math.nan
    assert math.isnan(local_std(x)[0, 0, 1, 1])


def test_cosine_transform_is_scipys() -> None:
    x = _images(2, 3, 6, 9)
    expected = scipy.fft.dctn(x.numpy(), type=2, axes=(2, 3))
    np.testing.assert_allclose(cosine_transform(x).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_patches_are_cut_row_by_row() -> None:
    x = torch.arange(30.0).view(1, 1, 5, 6)
    patches = split_patches(x, 2, 3)
    assert patches.shape == (1, 6, 1, 2, 2)
    assert patches[0, 1, 0].tolist() == [[2.0, 3.0], [8.0, 9.0]]
    assert patches[0, 3, 0].tolist() == [[12.0, 13.0], [18.0, 19.0]]
    with pytest.raises(InputError, match="images of 5x6 pixels cannot be cut into 8x8 patches"):
        split_patches(x, 8, 8)


def _plain_wavelet(side: int, j: int, theta: float, frequency: float, sigma: float, slant: float) -> Tensor:
    """A periodic Gaussian under a wave, written point by point, in the Fourier domain."""
    out: NDArray[np.complex128] = np.zeros((side, side), np.complex128)
    for y in range(-2 * side, 3 * side):
        for x in range(-2 * side, 3 * side):
            u = y * math.cos(theta) + x * math.sin(theta)
            v = -y * math.sin(theta) + x * math.cos(theta)
            value = np.exp(-(u * u + slant * slant * v * v) / (2 * sigma**2) + 1j * frequency * u)
            out[y % side, x % side] += value
    return torch.from_numpy(out * slant / (2 * 3.1415 * sigma**2))


def _plain_scattering(x: Tensor, scales: int, angles: int) -> Tensor:
    """Every filter at full resolution, one after the other, subsampled at the very end."""
    side = x.shape[-1]
    padded_side = ((side + 2**scales) // 2**scales + 1) * 2**scales
    before = (padded_side - side) // 2
    after = padded_side - side - before
    x = torch.nn.functional.pad(x[None, None], (before, after, before, after), mode="reflect")[0, 0]
    low = torch.fft.fft2(_plain_wavelet(padded_side, 0, 0.0, 0.0, 0.8 * 2 ** (scales - 1), 1.0))
    psi: dict[tuple[int, int], Tensor] = {}
    for j in range(scales):
        for t in range(angles):
            shape = (0.8 * 2**j, 4.0 / angles)
            theta = (angles // 2 - 1 - t) * math.pi / angles
            wave = _plain_wavelet(padded_side, j, theta, 0.75 * math.pi / 2**j, *shape)
            envelope = _plain_wavelet(padded_side, j, theta, 0.0, *shape)
            psi[j, t] = torch.fft.fft2(wave - wave.sum() / envelope.sum() * envelope).real

    def filtered(u: Tensor, spectrum: Tensor) -> Tensor:
        made: Tensor = torch.fft.ifft2(torch.fft.fft2(u) * spectrum)
        return made

    def blurred(u: Tensor) -> Tensor:
        return filtered(u, low).real[:: 2**scales, :: 2**scales][1:-1, 1:-1]

    first = {key: filtered(x, psi[key]).abs() for key in psi}
    second = [filtered(first[a], psi[b]).abs() for a in psi for b in psi if b[0] > a[0]]
    return torch.stack([blurred(x), *map(blurred, first.values()), *map(blurred, second)])


def test_scattering_is_that_of_every_filter_by_itself_at_full_resolution() -> None:
    noise = torch.nn.functional.interpolate(_images(1, 1, 4, 4), size=(13, 13), mode="bicubic")
    made = scattering_transform(noise, scales=2, angles=3)
    expected = _plain_scattering(noise[0, 0], 2, 3)
    assert made.shape == (1, 1, 1 + 2 * 3 + 9, 3, 3)
    # Order 0 and the finest scale are not subsampled on the way; elsewhere that folds a little over.
    torch.testing.assert_close(made[0, 0, :4], expected[:4], rtol=1e-10, atol=1e-12)
    assert (made[0, 0] - expected).abs().max() < 1e-2 * expected.abs().max()
    # The order of coefficients is right: none of them is another.
    errors = (made[0, 0][:, None] - expected[None]).flatten(2).abs().amax(2)
    assert torch.equal(errors.argmin(1), torch.arange(len(expected)))


def test_scattering_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from raysl.models.representations import scattering

    x = _images(5, 2, 12, 8)
    whole = scattering_transform(x, 2, 4)
    monkeypatch.setattr(scattering, "_CPU_VALUES", 1)
    torch.testing.assert_close(scattering_transform(x, 2, 4), whole, rtol=1e-12, atol=1e-14)


def test_scattering_hardly_changes_when_the_image_moves_by_a_pixel() -> None:
    x = torch.nn.functional.pad(_images(1, 1, 16, 16), (8, 8, 8, 8))
    still, moved = scattering_transform(x, 3, 4), scattering_transform(x.roll(1, 3), 3, 4)
    assert (still - moved).norm() < 0.3 * still.norm()
    assert (x - x.roll(1, 3)).norm() > 1.2 * x.norm()


@pytest.mark.parametrize("name", get_args(Representation))
def test_every_representation_has_a_row_for_each_image_of_that_image_alone(name: Representation) -> None:
    x = _images(6, 2, 12, 12)
    whole = represent(name, x, OPTIONS)
    assert whole.shape[0] == 6
    assert whole.ndim == 2
    torch.testing.assert_close(represent(name, x[2:4], OPTIONS), whole[2:4], rtol=1e-12, atol=1e-14)
    assert (whole[0] - whole[1]).abs().max() > 1e-3
    assert not represent(name, x.requires_grad_(), OPTIONS).requires_grad


@pytest.mark.parametrize("name", get_args(Representation))
def test_autocast_changes_nothing(name: Representation) -> None:
    x = _images(3, 1, 16, 16).float()
    expected = represent(name, x, OPTIONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(represent(name, x, OPTIONS), expected)
    assert represent(name, x.bfloat16(), OPTIONS).dtype == torch.float32


def test_only_pixels_and_scattering_are_divided() -> None:
    x = _images(2, 1, 12, 12)
    assert torch.equal(represent("pixels", x, OPTIONS), x.flatten(1) / 32)
    assert torch.equal(represent("augmented", x, OPTIONS), x.flatten(1) / 32)
    torch.testing.assert_close(
        32 * represent("scattering", x, OPTIONS), represent("augmented_scattering", x, OPTIONS)
    )
    assert torch.equal(represent("hog", x, OPTIONS), represent("augmented_hog", x, OPTIONS))
    assert [name for name in get_args(Representation) if of_augmented(name)] == [
        "augmented", "augmented_scattering", "augmented_hog", "augmented_local_std",
    ]  # fmt: skip


def test_images_that_are_too_small_are_named() -> None:
    with pytest.raises(InputError, match="more than 4 pixels a side, got 4x9"):
        represent("scattering", _images(1, 1, 4, 9), OPTIONS)
    with pytest.raises(InputError, match="cells of 4 pixels need images as large, got 9x3"):
        represent("hog", _images(1, 1, 9, 3), OPTIONS)
