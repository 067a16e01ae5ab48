"""Gaussian blur as products with bands of kernels, in memory that is used again."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysl.data.resample import kernel_taps, resample

# Rows of a blur that are one matrix product.
_BLOCK = 16


class Scratch(threading.local):
    """Memory that is used again for every part of a batch: fresh pages cost more than the arithmetic.

    Each thread has its own: a feed makes several parts at a time.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def get(self, name: str, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return a float32 tensor whose values are undefined; it holds until the next call with its name."""
        if device.type != "cpu":  # devices keep their memory
            return torch.empty(tuple(shape), device=device)
        size = math.prod(shape)
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = torch.empty(size)
        return self._buffers[name][:size].view(tuple(shape))


def blur(x: Tensor, kernels: NDArray[np.float64], scratch: Scratch) -> Tensor:
    """Return (N, C, H, W) float images convolved with each one's (N, K) kernel, the borders reflected.

    On the host a block of rows is a product of a band of kernels and the image, which NumPy calls for one
    block after the other: so each has its own, always the same bits.
    """
    kernel, width = kernels.astype(np.float32), kernels.shape[1]
    if x.device.type != "cpu":
        weights = torch.from_numpy(kernel).to(x.device)
        return resample(x, kernel_taps(weights, x.shape[2]), kernel_taps(weights, x.shape[3]))
    n, channels, height, long = x.shape
    reach = width // 2
    band = np.zeros((n, _BLOCK, _BLOCK + 2 * reach), np.float32)
    for row in range(_BLOCK):
        band[:, row, row : row + width] = kernel
    tall, wide = (-(-size // _BLOCK) * _BLOCK for size in (height, long))
    rows = _reflected(x, 2, tall - height, reach, scratch)
    blocks = np.lib.stride_tricks.sliding_window_view(rows, _BLOCK + 2 * reach, axis=2)[:, :, ::_BLOCK]
    done = scratch.get("rows", (n, channels, tall, long), x.device)
    np.matmul(
        band[:, None, None],
        blocks.swapaxes(3, 4),
        out=done.numpy().reshape(n, channels, tall // _BLOCK, _BLOCK, long),
    )
    columns = _reflected(done[:, :, :height], 3, wide - long, reach, scratch)
    flat = columns.reshape(n, channels * height, -1)
    blocks = np.lib.stride_tricks.sliding_window_view(flat, _BLOCK + 2 * reach, axis=2)[:, :, ::_BLOCK]
    done = scratch.get("columns", (n, channels * height, wide), x.device)
    target = done.numpy().reshape(n, channels * height, wide // _BLOCK, _BLOCK).swapaxes(1, 2)
    np.matmul(blocks.swapaxes(1, 2), band[:, None].swapaxes(2, 3), out=target)
    return done.view(n, channels, height, wide)[..., :long]


def _reflected(x: Tensor, axis: int, more: int, reach: int, scratch: Scratch) -> NDArray[np.float32]:
    """Return images with `reach` reflected rows or columns at both ends of an axis, then `more` of zeros."""
    size = x.shape[axis]
    shape = list(x.shape)
    shape[axis] += 2 * reach + more
    out = scratch.get("reflected", shape, x.device)
    out.narrow(axis, reach, size).copy_(x)
    if reach:
        out.narrow(axis, 0, reach).copy_(x.narrow(axis, 1, reach).flip(axis))
        out.narrow(axis, reach + size, reach).copy_(x.narrow(axis, size - 1 - reach, reach).flip(axis))
    out.narrow(axis, size + 2 * reach, more).zero_()
    return np.asarray(out.numpy())
