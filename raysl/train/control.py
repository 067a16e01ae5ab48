"""What the workers of a job agree on besides gradients: to stop, where to go on from, that it failed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from raysl.models.parallel import world_size


class Control:
    """A small channel between workers, on CPU tensors whatever carries the gradients; silent with one."""

    def __init__(self) -> None:
        self._group: Any = None
        if world_size() > 1 and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")

    def any(self, *mine: bool) -> tuple[bool, ...]:
        """Return for each question whether any worker says yes. Every worker must ask them all."""
        if world_size() == 1:
            return mine
        votes = torch.tensor([int(vote) for vote in mine])
        dist.all_reduce(votes, group=self._group)
        return tuple(bool(vote) for vote in votes)

    def from_first(self, value: Any) -> Any:
        """Return the first worker's value on every worker. Every worker must ask."""
        if world_size() == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]
