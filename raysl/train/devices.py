"""Which device a process trains on, and how many GPUs each worker of a job gets."""

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


def gpus_per_worker(config: RunConfig, there: float) -> float:
    """Return the GPUs of each worker: a whole number, or a share of one.

    Args:
        config: the run.
        there: GPUs of the cluster.

    Raises:
        InputError: GPUs that no worker can be given, or a backend that cannot use them.
    """
    launch = config.launch
    gpus = _gpus_asked(config, there)
    if gpus > 1 and gpus != int(gpus):
        raise InputError(
            f"launch.gpus_per_worker = {gpus:g}: Ray gives whole GPUs or a share of one; "
            "use a whole number, or less than 1"
        )
    if launch.backend == "nccl" and launch.workers > 1:
        if not gpus:
            raise InputError("launch.backend = nccl: needs GPUs, but the workers have none; use gloo or auto")
        if gpus < 1:
            raise InputError(
                f"launch.backend = nccl: needs a whole GPU for each worker, not {gpus:g}; use gloo or auto"
            )
    return gpus


def _gpus_asked(config: RunConfig, there: float) -> float:
    device, asked = config.train.device, config.launch.gpus_per_worker
    if device == "cpu":
        return 0.0
    if device == "cuda" and asked == 0:
        raise InputError(
            "launch.gpus_per_worker = 0: train.device = cuda needs 1 or more, or a share of one; "
            "leave it out, or use train.device auto or cpu"
        )
    if asked is not None:
        return asked
    return 1.0 if device == "cuda" or there >= 1.0 else 0.0
