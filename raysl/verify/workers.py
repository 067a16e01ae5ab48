"""The same run on one worker and on several: loss, every gradient, and everything after some steps.

The processes are started once, as many as the largest number asked for; each number of workers uses the first
of them, for one run after the other. One worker has no process group, as in training.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import (
    ProcessContext,
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from raysl.errors import RayslError
from raysl.train.config import RunConfig
from raysl.verify.sample import Precision, Taken, sample_images, take_steps, with_precision

STEPS = 5
"""Optimizer steps in float64, after which all parameters and buffers are compared."""
TOLERANCE: dict[Precision, float] = {"float64": 1e-9, "float32": 1e-4}
# A gradient below this share of the largest of all counts as if it were that large: one that vanishes but for
# rounding (of a bias that a normalisation cancels) has no relative accuracy. The parameter it belongs to is
# compared absolutely, because Adam makes steps of such rounding.
_SHARE: dict[Precision, float] = {"float64": 1e-5, "float32": 1e-2}
_ROUNDING = 1e-6
"""Floor of losses, and of every other tensor of the state: the mean of a normalised batch is zero but for
rounding."""
_DEADLINE_S = 120.0
"""For one run on one number of workers."""

Backend = Literal["gloo", "nccl"]


@dataclass(frozen=True)
class Difference:
    """How far several workers are from one.

    Args:
        workers: how many.
        precision: float64 or float32.
        loss: largest relative difference of a step's loss.
        gradients: of the first step: the largest difference of an entry, relative to its tensor's largest.
        state: the same of parameters and buffers after all steps; None where only one was taken.
        where: the tensor that is farthest off.
        error: what the workers ended with instead.
    """

    workers: int
    precision: Precision
    loss: float = math.inf
    gradients: float = math.inf
    state: float | None = None
    where: str = ""
    error: str | None = None

    @property
    def worst(self) -> float:
        """The largest of its differences."""
        return max(self.loss, self.gradients, self.state or 0.0)

    @property
    def passed(self) -> bool:
        """Whether they are equal but for rounding."""
        return self.error is None and self.worst <= TOLERANCE[self.precision]


def compare_workers(
    configs: Mapping[str, RunConfig], sizes: Sequence[int], backend: Backend = "gloo"
) -> dict[str, list[Difference]]:
    """Take the same steps on several numbers of workers and compare each with one worker.

    Args:
        configs: runs by name.
        sizes: numbers of workers; one is always among them.
        backend: gloo on CPUs, or nccl on as many GPUs.

    Returns:
        For each run its differences, float64 before float32, for each number of workers above one.

    Raises:
        RayslError: a process died.
    """
    wanted = sorted({1, *sizes})
    if wanted == [1]:
        return {name: [] for name in configs}
    with tempfile.TemporaryDirectory(prefix="raysl-verify-") as name:
        folder = Path(name)
        _start(folder, list(configs.values()), wanted, backend)
        return {
            run: [
                _difference(folder, place, size, precision)
                for precision in TOLERANCE
                for size in wanted
                if size > 1
            ]
            for place, run in enumerate(configs)
        }


def _start(folder: Path, configs: list[RunConfig], sizes: list[int], backend: Backend) -> None:
    # A fork server imports torch once for all of them; its optimizers would import the second name later.
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    context = cast(
        ProcessContext,
        start_processes(  # type: ignore[no-untyped-call]
            _worker,
            (folder, configs, sizes, backend),
            nprocs=max(sizes),
            join=False,
            start_method="forkserver",
        ),
    )
    deadline = time.monotonic() + _DEADLINE_S * max(1, len(configs)) * len(sizes)
    try:
        while not context.join(timeout=1.0):
            if time.monotonic() > deadline:
                raise RayslError(
                    "the verifying processes did not finish; raysl verify METHOD tries one method"
                )
    except (
        ProcessExitedException,
        ProcessRaisedException,
    ) as error:
        raise RayslError(f"a verifying process died: {str(error).strip().splitlines()[-1]}") from error
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()


def _worker(number: int, folder: Path, configs: list[RunConfig], sizes: list[int], backend: Backend) -> None:
    """Take part in every run on every number of workers that includes this process."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for size in sizes:
        if number >= size:
            continue
        for place, config in enumerate(configs):
            for precision in TOLERANCE:
                run = f"{place}-{size}-{precision}"
                if size > 1:
                    dist.init_process_group(
                        backend, init_method=f"file://{folder}/meet-{run}", rank=number, world_size=size,
                        timeout=timedelta(seconds=_DEADLINE_S),
                    )  # fmt: skip
                result = _take(
                    with_precision(config, precision), device, STEPS if precision == "float64" else 1
                )
                if size > 1:
                    dist.destroy_process_group()
                torch.save(result, folder / f"{run}-{number}.pt")


def _take(config: RunConfig, device: torch.device, steps: int) -> dict[str, Any]:
    """Return the steps, or when and how they failed: the others then fail too, but later."""
    try:
        return vars(take_steps(config, sample_images(config.train.batch_size), device, steps))
    except Exception as error:
        return {"time": time.monotonic(), "error": one_line(error)}


def one_line(error: Exception) -> str:
    """Return what went wrong in a line; of our own errors the message alone."""
    told = str(error).strip().partition("\n")[0]
    return told if isinstance(error, RayslError) else f"{type(error).__name__}: {told}"


def _difference(folder: Path, place: int, size: int, precision: Precision) -> Difference:
    alone, *others = (
        torch.load(folder / f"{place}-{count}-{precision}-{number}.pt", weights_only=True)
        for count in (1, size)
        for number in range(count)
    )
    failed = [result for result in (alone, *others) if "error" in result]
    if failed:
        return Difference(size, precision, error=min(failed, key=lambda result: result["time"])["error"])
    return compare_taken(Taken(**alone), [Taken(**other) for other in others], size, precision)


def compare_taken(alone: Taken, others: Sequence[Taken], size: int, precision: Precision) -> Difference:
    """Compare what several workers took, each of them, with what one did."""
    loss = max(
        _nan_is_worst(abs(mine - theirs) / max(abs(theirs), _ROUNDING))
        for other in others
        for mine, theirs in zip(other.losses, alone.losses, strict=True)
    )
    sizes = {name: float(x.abs().max()) for name, x in alone.gradients.items()}
    least = _SHARE[precision] * max(sizes.values())
    floors = dict.fromkeys(sizes, least)
    gradients, where = max(_farthest(other.gradients, alone.gradients, floors) for other in others)
    if len(alone.losses) == 1:
        return Difference(size, precision, loss, gradients, None, where)
    floors = {name: 1.0 for name in sizes if sizes[name] <= least}
    state, there = max(_farthest(other.state, alone.state, floors) for other in others)
    return Difference(size, precision, loss, gradients, state, where if gradients >= state else there)


def _farthest(
    ours: Mapping[str, Tensor], alone: Mapping[str, Tensor], floors: Mapping[str, float]
) -> tuple[float, str]:
    """Return the largest difference of two sets of tensors and the tensor it is in.

    Each tensor's is relative to its largest entry, or to its floor where that is larger.
    """
    if ours.keys() != alone.keys():
        return math.inf, ", ".join(sorted(ours.keys() ^ alone.keys()))
    return max((_apart(ours[name], x, floors.get(name, _ROUNDING)), name) for name, x in alone.items())


def _apart(ours: Tensor, alone: Tensor, floor: float) -> float:
    if not alone.numel():
        return 0.0
    return _nan_is_worst(float((ours - alone).abs().max()) / max(float(alone.abs().max()), floor))


def _nan_is_worst(value: float) -> float:
    return math.inf if math.isnan(value) else value
