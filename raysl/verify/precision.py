"""bf16 autocast against float32: the same weights, the same batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from raysl.train.config import RunConfig
from raysl.verify.sample import sample_images, take_steps, with_precision

LEAST_COSINE = 0.95
"""Of the whole gradient in bf16 and in float32."""
# MEC and SimSiam start near zero, where a loss has no relative accuracy; smaller losses count as this large.
_LEAST_LOSS = 0.1


@dataclass(frozen=True)
class Rounding:
    """What bf16 changes.

    Args:
        device: where it was computed.
        loss: difference of the loss, relative to it or to 0.1 where it is smaller.
        tolerance: what the method's config allows of it.
        cosine: between the gradients of all parameters together; nan where one is not finite.
    """

    device: str
    loss: float
    tolerance: float
    cosine: float

    @property
    def passed(self) -> bool:
        """Whether the loss is within its tolerance and the gradient still points the same way."""
        return self.loss <= self.tolerance and self.cosine >= LEAST_COSINE


def compare_precisions(config: RunConfig, device: torch.device) -> Rounding:
    """Take the run's first step with the networks under bf16 autocast, and without."""
    data = sample_images(config.train.batch_size)
    exact = take_steps(with_precision(config, "float32"), data, device, 1)
    rounded = take_steps(with_precision(config, "bf16"), data, device, 1)
    loss = abs(rounded.losses[0] - exact.losses[0]) / max(abs(exact.losses[0]), _LEAST_LOSS)
    ours, theirs = (_joined(taken.gradients) for taken in (rounded, exact))
    cosine = float(ours @ theirs / (ours.norm() * theirs.norm()))
    return Rounding(device.type, math.inf if math.isnan(loss) else loss, config.method.bf16_tolerance, cosine)


def _joined(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])
