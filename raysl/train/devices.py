"""Which device a process trains on."""

from __future__ import annotations

import torch

from raysl.errors import InputError
from raysl.train.config import RunConfig


def choose_device(config: RunConfig) -> torch.device:
    """Return the device that `train.device` means in this process.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    wanted = config.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device = cuda: this process sees no GPU; use auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
