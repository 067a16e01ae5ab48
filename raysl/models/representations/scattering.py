"""Scattering transform of images: a cascade of Morlet wavelets and moduli (Bruna and Mallat 2013).

Suffixes of names give shapes: b images (each channel one), l angles, h and w the sides of a map.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.errors import InputError

_CPU_VALUES = 1 << 18
_DEVICE_VALUES = 1 << 27
"""Complex values that the wavelet maps of one pass may hold."""

# Kymatio normalises with so many digits, and the stored coefficients of MV-MR's authors are kymatio's.
_PI = 3.1415


class _Bank(NamedTuple):
    """Filters of one size of image."""

    wavelets: list[list[Tensor]]
    """`wavelets[j][resolution]`: (L, h, w), real Fourier transforms at 1 / 2^resolution of the size, divided
    by how many aliases are to be added."""
    low_pass: list[tuple[Tensor, Tensor]]
    """`low_pass[resolution]`: what is multiplied from the left and from the right to blur and subsample."""
    padding: tuple[int, int, int, int]
    """Left, right, top, bottom."""


def scattering_transform(images: Tensor, scales: int = 2, angles: int = 8) -> Tensor:
    """Return the scattering coefficients of order 0, 1 and 2 of each channel.

    With psi_{j,t} a Morlet wavelet of scale 2^j and angle t, phi a Gaussian of scale 2^J, * convolution:

        S0            = x * phi
        S1[j, t]      = |x * psi_{j,t}| * phi
        S2[j,t, k, s] = ||x * psi_{j,t}| * psi_{k,s}| * phi  for k > j

    all subsampled by 2^J. Borders are reflected. All images, channels and angles of a scale are one batch.

    Args:
        images: float images `(N, C, H, W)`, sides above 2^scales.
        scales: J, octaves.
        angles: L, directions of the wavelets over half a turn.

    Returns:
        `(N, C, K, H // 2^J, W // 2^J)` with K = 1 + J L + L^2 J (J - 1) / 2; S0 first, then S1 by (j, t),
        then S2 by (j, t, k, s).

    Raises:
        InputError: an image that the largest wavelet does not fit.

    Source: Bruna and Mallat 2013 (arXiv 1203.1513), equations 8 and 11; the wavelets' shape (width 0.8 2^j,
    frequency 3/4 pi / 2^j, slant 4 / L) is kymatio's, whose coefficients these are.
    """
    n, channels, height, width = images.shape
    if min(height, width) <= 2**scales:
        raise InputError(
            f"scattering over {scales} octaves needs images of more than {2**scales} pixels a side, "
            f"got {height}x{width}: lower the octaves or leave this representation out"
        )
    x_bhw = images.reshape(n * channels, height, width)
    bank = _bank(height, width, scales, angles, x_bhw.dtype, x_bhw.device)
    values = 2 * angles * bank.wavelets[0][0][0].numel() * (1 + (scales - 1) * angles // 4)
    budget = _CPU_VALUES if x_bhw.device.type == "cpu" else _DEVICE_VALUES
    with torch.autocast(images.device.type, enabled=False):
        parts = [_scatter(part, bank, scales) for part in torch.split(x_bhw, max(1, budget // values))]
    return torch.unflatten(torch.cat(parts), 0, (n, channels))


def _scatter(x_bhw: Tensor, bank: _Bank, scales: int) -> Tensor:
    """Return `(B, K, h, w)` of images `(B, H, W)`."""
    x_bhw = F.pad(x_bhw[:, None], bank.padding, mode="reflect")[:, 0]
    spectrum = torch.fft.fft2(x_bhw)[:, None]
    zeroth, first, second = [_blur(x_bhw[:, None], bank, 0)], [], []
    for j in range(scales):
        u_blhw = _modulus(spectrum, bank.wavelets[j][0], 2**j)
        first.append(_blur(u_blhw, bank, j))
        if j + 1 == scales:
            continue
        u_spectrum = torch.fft.fft2(u_blhw)[:, :, None]
        finer = [
            _blur(_modulus(u_spectrum, bank.wavelets[k][j], 2 ** (k - j)), bank, k)
            for k in range(j + 1, scales)
        ]
        second.append(torch.stack(finer, dim=2).flatten(1, 3))
    return torch.cat(zeroth + first + second, dim=1)


def _modulus(spectrum: Tensor, wavelets: Tensor, step: int) -> Tensor:
    """Return |x * psi| at every `step`-th pixel: in the Fourier domain, the sum over aliases."""
    product = spectrum * wavelets
    for dim in (-2, -1) if step > 1 else ():
        # A few large additions: torch's sum over a strided dimension of complex numbers is many times slower.
        product = reduce(torch.add, product.chunk(step, dim))
    modulus: Tensor = torch.fft.ifft2(product).abs()
    return modulus


def _blur(u_hw: Tensor, bank: _Bank, resolution: int) -> Tensor:
    left, right = bank.low_pass[resolution]
    return left @ u_hw @ right


@lru_cache(maxsize=8)
def _bank(
    height: int, width: int, scales: int, angles: int, dtype: torch.dtype, device: torch.device
) -> _Bank:
    padded = [((side + 2**scales) // 2**scales + 1) * 2**scales for side in (height, width)]
    gaps = [(whole - side) for whole, side in zip(padded, (height, width), strict=True)]
    wavelets: list[list[Tensor]] = []
    for j in range(scales):
        spectra = torch.stack([_morlet(padded, j, turn, angles) for turn in range(angles)])
        # A wavelet meets maps of finer scales than its own, and its map is then 2^j times smaller than the
        # image; aliases are averaged.
        steps = [2 ** (j - r) for r in range(j + 1)]
        wavelets.append(
            [(_low(_low(spectra, -2, r), -1, r) / step**2).to(device, dtype) for r, step in enumerate(steps)]
        )
    # The Gaussian is a product of one along each axis, so that blurring is two small matrix products.
    operators = [[_blurring(side, scales, r).to(device, dtype) for side in padded] for r in range(scales)]
    low_pass = [(rows, columns.T.contiguous()) for rows, columns in operators]
    (top, left), (bottom, right) = [gap // 2 for gap in gaps], [gap - gap // 2 for gap in gaps]
    return _Bank(wavelets, low_pass, (left, right, top, bottom))


def _low(spectrum: Tensor, dim: int, resolution: int) -> Tensor:
    """Return the lowest 1 / 2^resolution of the frequencies along a dimension."""
    size = spectrum.shape[dim]
    kept = size >> resolution
    low = torch.arange(kept)
    return spectrum.index_select(dim, torch.where(low < kept // 2, low, size - kept + low))


def _periodic(values: Tensor, size: int, dim: int) -> Tensor:
    """Return the sum of the five periods that `values` holds along a dimension."""
    return torch.unflatten(values, dim, (5, size)).sum(dim=dim)


def _morlet(padded: list[int], j: int, turn: int, angles: int) -> Tensor:
    """Return the real Fourier transform of a periodic Morlet wavelet: a wave under a Gaussian, of mean 0."""
    height, width = padded
    sigma, frequency, slant = 0.8 * 2**j, 0.75 * math.pi / 2**j, 4.0 / angles
    theta = (angles // 2 - 1 - turn) * math.pi / angles
    y = torch.arange(-2 * height, 3 * height, dtype=torch.float64)[:, None]
    x = torch.arange(-2 * width, 3 * width, dtype=torch.float64)[None, :]
    along = y * math.cos(theta) + x * math.sin(theta)
    across = x * math.cos(theta) - y * math.sin(theta)
    gaussian = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2))
    waves = torch.polar(gaussian, frequency * along)
    envelope = _periodic(_periodic(gaussian, width, 1), height, 0)
    wave = _periodic(_periodic(waves, width, 1), height, 0)
    wavelet = (wave - wave.sum() / envelope.sum() * envelope) / (2 * _PI * sigma**2 / slant)
    spectrum: Tensor = torch.fft.fft2(wavelet).real
    return spectrum


def _blurring(padded: int, scales: int, resolution: int) -> Tensor:
    """Return the matrix that blurs a line, subsamples it by what is left of 2^J and cuts the padding off.

    Its columns are what becomes of the unit vectors.
    """
    sigma = 0.8 * 2 ** (scales - 1)
    place = torch.arange(-2 * padded, 3 * padded, dtype=torch.float64)
    gaussian = _periodic(torch.exp(-(place**2) / (2 * sigma**2)), padded, 0)
    spectrum = _low(torch.fft.fft(gaussian).real / (math.sqrt(2 * _PI) * sigma), 0, resolution)
    size, step = padded >> resolution, 2 ** (scales - resolution)
    units = torch.fft.fft(torch.eye(size, dtype=torch.float64), dim=0) * spectrum[:, None]
    blurred = torch.fft.ifft(torch.unflatten(units, 0, (step, size // step)).mean(dim=0), dim=0)
    matrix: Tensor = blurred.real[1:-1]
    return matrix
