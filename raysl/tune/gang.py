"""What one trial needs, and how many such fit into a cluster at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysl.errors import InputError
from raysl.train.config import LaunchConfig


@dataclass(frozen=True)
class Gang:
    """The processes of a trial, which start together or not at all.

    Args:
        workers: processes.
        cpus: CPUs of each.
        gpus: GPUs of each.
    """

    workers: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, config: LaunchConfig, nodes: Sequence[Mapping[str, float]]) -> Gang:
        """Return what a config asks for on these nodes.

        Raises:
            InputError: trials of several workers, which a sweep cannot run yet.
        """
        if config.workers != 1:
            raise InputError(
                f"launch.workers = {config.workers}: the trials of a sweep have one worker; "
                "set launch.workers=1 here and choose the number when you pretrain the winner"
            )
        gpus = config.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0
        return cls(config.workers, config.cpus_per_worker, gpus)

    @property
    def bundle(self) -> dict[str, float]:
        """Return Ray's name for what one process needs."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def slots(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Return how many gangs fit at a time.

        Args:
            nodes: resources of each living node.

        Raises:
            InputError: not even one does.
        """
        processes = sum(
            min(math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in self.bundle.items())
            for node in nodes
        )
        if processes < self.workers:
            largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
            most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
            raise InputError(
                f"a trial needs {self.cpus:g} CPUs and {self.gpus:g} GPUs, but the largest node has "
                f"{largest:g} and {most_gpus:g}; lower launch.cpus_per_worker or launch.gpus_per_worker"
            )
        return processes // self.workers


def living_nodes() -> list[dict[str, Any]]:
    """Return the resources of each living node of the connected Ray."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
