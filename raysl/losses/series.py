"""Traces of matrix power series with few products, and the radius in which such a series converges.

Suffixes of names give shapes: d for the side of a square matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_coefficients(order: int) -> list[float]:
    """Return the coefficients (-1)^(k+1) / k of log(I + E) at E^k, k = 1..order.

    Raises:
        ValueError: an order below 1.
    """
    if order < 1:
        raise ValueError(f"the order of the logarithm's Taylor series must be at least 1, got {order}")
    return [(-1) ** (k + 1) / k for k in range(1, order + 1)]


def split_log_series(e_dd: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split log_K(I + E) into low + E^s high with s = ceil(K / 2), forming no power above E^s.

    Args:
        e_dd: square matrix `(D, D)`.
        order: number of terms K.

    Returns:
        E^s, low and high.

    Raises:
        ValueError: an order below 1.
    """
    coefficients = log_coefficients(order)
    split = (order + 1) // 2
    powers = [e_dd]
    while len(powers) < split:
        powers.append(powers[-1] @ e_dd)
    low_dd, high_dd = torch.zeros_like(e_dd), torch.zeros_like(e_dd)
    for coefficient, power_dd in zip(coefficients[:split], powers, strict=True):
        low_dd = low_dd + coefficient * power_dd
    for coefficient, power_dd in zip(coefficients[split:], powers, strict=False):
        high_dd = high_dd + coefficient * power_dd
    return powers[-1], low_dd, high_dd


def trace_log_series(e_dd: Tensor, order: int) -> Tensor:
    """Return tr log_K(I + E) = sum_{k=1..K} (-1)^(k+1) tr(E^k) / k with ceil(K / 2) - 1 matrix products.

    Args:
        e_dd: square matrix `(D, D)`, symmetric or not.
        order: number of terms K.

    Returns:
        A scalar.

    Raises:
        ValueError: an order below 1.
    """
    highest_dd, low_dd, high_dd = split_log_series(e_dd, order)
    return low_dd.diagonal().sum() + trace_product(highest_dd, high_dd)


def trace_product(a_dd: Tensor, b_dd: Tensor) -> Tensor:
    """Return tr(A B) = sum of A * B', which needs no product of matrices."""
    return (a_dd * b_dd.T).sum()


@torch.no_grad()
def spectral_radius(e_dd: Tensor, squarings: int = 10) -> Tensor:
    """Return the largest |eigenvalue| of a square matrix, without gradient.

    By Gelfand's formula |E^k|^(1/k) with k = 2^squarings, which needs no start vector and copes with complex
    pairs. It never errs below, and above by less than 1 % for any but pathological matrices.

    Args:
        e_dd: `(D, D)`, symmetric or not.
        squarings: matrix products spent.

    Returns:
        A scalar; 0 for the zero matrix, NaN if E holds a NaN.
    """
    power_dd = e_dd.detach()
    log_radius = power_dd.new_zeros(())
    for squaring in range(squarings + 1):
        norm = torch.linalg.matrix_norm(power_dd)
        log_radius = log_radius + norm.log() / 2**squaring
        power_dd = power_dd / torch.where(norm == 0, torch.ones_like(norm), norm)
        if squaring < squarings:
            power_dd = power_dd @ power_dd
    return log_radius.exp()
