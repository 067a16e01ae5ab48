"""What one trial needs, and how many such fit into a cluster at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysl.errors import InputError
from raysl.train.config import RunConfig
from raysl.train.devices import gpus_per_worker

Node = Mapping[str, float]

KEEPER_BYTES = 1_000_000.0
"""Memory that the process of a trial reserves whose training runs in workers of its own. It reserves no CPU:
with one CPU less than its workers need, the trial would wait for itself."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Gang:
    """The processes of a trial, which start together or not at all.

    Args:
        workers: processes.
        cpus: CPUs of each.
        gpus: GPUs of each: a whole number, or a share of one.
    """

    workers: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, config: RunConfig, nodes: Sequence[Node]) -> Gang:
        """Return what the trials of a config need on these nodes.

        Raises:
            InputError: it asks for GPUs that no worker can be given.
        """
        launch = config.launch
        gpus = gpus_per_worker(config, sum(node.get("GPU", 0.0) for node in nodes))
        return cls(launch.workers, launch.cpus_per_worker, gpus)

    @property
    def bundle(self) -> dict[str, float]:
        """Return Ray's name for what one worker needs."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def held_by_tune(self) -> list[dict[str, float]]:
        """Return what Ray Tune reserves for a trial; Ray Train reserves for the workers of a larger one."""
        return [self.bundle] if self.workers == 1 else [{"memory": KEEPER_BYTES}]

    def slots(self, nodes: Sequence[Node]) -> int:
        """Return how many gangs fit at a time; the workers of one may be on several nodes.

        Args:
            nodes: resources of each living node.

        Raises:
            InputError: not even one does.
        """
        fitting = sum(self._on(node) for node in nodes)
        if fitting >= self.workers:
            return fitting // self.workers
        if not fitting:
            largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
            most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
            raise InputError(
                f"a trial needs {self.cpus:g} CPUs and {self.gpus:g} GPUs"
                f"{' for each worker' if self.workers > 1 else ''}, but the largest node has "
                f"{largest:g} and {most_gpus:g}; lower launch.cpus_per_worker or launch.gpus_per_worker"
            )
        raise InputError(
            f"launch.workers = {self.workers}: a trial needs {self._workers()}, but the cluster "
            f"({len(nodes)} node{'s' if len(nodes) != 1 else ''}) has room for {fitting}; "
            "use fewer workers or less per worker"
        )

    def describe(self, slots: int) -> str:
        """Return how many run at a time and what each takes: `2 at a time, 2 workers of 1 CPU each`."""
        return f"{slots} at a time, {self._workers() if self.workers > 1 else self._each()} each"

    def _workers(self) -> str:
        return f"{self.workers} workers of {self._each()}"

    def _each(self) -> str:
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"
        return cpus + (f" and {self.gpus:g} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else "")

    def _on(self, node: Node) -> int:
        """Return how many workers fit on a node. A share of a GPU is of one GPU, never of two."""
        cpus, gpus = _times(node.get("CPU", 0.0), self.cpus), int(node.get("GPU", 0.0))
        if not self.gpus:
            return cpus
        return min(cpus, gpus * _times(1.0, self.gpus) if self.gpus < 1.0 else _times(gpus, self.gpus))


def _times(there: float, each: float) -> int:
    return math.floor(there / each + _ROUNDING)


def living_nodes() -> list[dict[str, Any]]:
    """Return the resources of each living node of the connected Ray."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
