"""One loss to time: ours beside the authors' formulation, written as the loops their code has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Forward = Callable[[], Tensor]
"""Runs forward on leaves that require a gradient and returns the scalar loss, to call `backward()` on."""


@dataclass(frozen=True)
class LossCase:
    """A loss at one size.

    Args:
        name: what is timed, and at which size.
        make: builds the inputs on a device and returns our loss and the loops; both compute the same scalar
            of the same values (float32), and clear the gradients of their leaves before they run.
        required: least ratio of the loops' median time to ours, forward and backward, on one core; None
            where only looked at.
        aim: the ratio hoped for.
        memory: least ratio of the loops' peak memory to ours; None where not asked for.
    """

    name: str
    make: Callable[[torch.device], tuple[Forward, Forward]]
    required: float | None = None
    aim: float | None = None
    memory: float | None = None


def fresh_leaves(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors as new leaves that require a gradient."""
    return [tensor.detach().requires_grad_() for tensor in tensors]
