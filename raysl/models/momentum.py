"""The momentum teacher: a slow copy of the student."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class MomentumTeacher(nn.Module):
    """A frozen copy of a student whose parameters follow it by exponential moving average.

    Only parameters follow. Batch normalisation runs on the teacher's own batches in training mode and
    keeps its own running statistics, copied from the student once, at the start: the student's later
    statistics would not belong to the teacher's weights.

    Args:
        student: the module to follow; it stays where it is and does not become part of the teacher.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False).train()
        # A tuple hides the student from module registration, so that its parameters are not owned twice.
        self._student = (student,)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the teacher's output, which carries no gradient."""
        return self.network(*args, **kwargs)

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Move every parameter in place: teacher <- momentum * teacher + (1 - momentum) * student.

        Call it after the optimizer's step. 0 copies the student exactly, 1 leaves the teacher as it is.

        Args:
            momentum: share of the teacher that is kept, in [0, 1].

        Raises:
            ValueError: a momentum outside [0, 1], or a student whose parameters have changed in number.
        """
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        teacher: list[Tensor] = list(self.network.parameters())
        student: list[Tensor] = list(self._student[0].parameters())
        if len(teacher) != len(student):
            raise ValueError(f"the student now has {len(student)} parameters, its teacher {len(teacher)}")
        torch._foreach_lerp_(teacher, student, 1.0 - momentum)
