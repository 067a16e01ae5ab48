"""What the losses share: the precision they run in and the normalisation of rows.

Suffixes of names give shapes: n rows (the global batch), d embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Leave autocast and give the tensors back in float32, or in float64 if one of them is."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield tuple(tensor.to(dtype) for tensor in tensors)


def require_matching_rows(*views_nd: Tensor) -> None:
    """Refuse anything but equal shapes `(N, D)` with at least two rows.

    Raises:
        ValueError: the shapes, as they are.
    """
    shapes = [tuple(view.shape) for view in views_nd]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][0] < 2:
        raise ValueError(f"expected views of one shape (N, D) with N >= 2, got {shapes}")


def unit_rows(x_nd: Tensor, eps: float = 1e-12) -> Tensor:
    """Scale every row to length one: x / |x|.

    A row shorter than `eps` becomes zero and receives a zero gradient; dividing it by `eps`, as
    torch.nn.functional.normalize does, would multiply its gradient by 1e12. A NaN stays NaN.

    Args:
        x_nd: rows `(N, D)`.
        eps: length below which a row has no direction.

    Returns:
        `(N, D)`.
    """
    norm_n1 = torch.linalg.vector_norm(x_nd, dim=1, keepdim=True)
    return torch.where(norm_n1 < eps, torch.zeros_like(x_nd), x_nd / norm_n1.clamp_min(eps))
