"""What stands between the process of a trial, its workers, and the sweep's driver.

A trial of several workers is pulled like any other: its first worker trains an epoch, says so here, and waits
to be told to go on. So a trial that is pruned has recorded nothing beyond the epoch it was pruned at, and its
workers leave together.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from raysl.tune.trials.messages import End

Key = tuple[int, int]
"""Trial and attempt."""


@dataclass
class _Gang:
    """One attempt.

    Args:
        allowed: epochs that it was told to train.
        trained: epochs that it has trained.
        stopped: whether its workers are to leave.
        ends: what each worker that has failed says, with its trace.
    """

    allowed: int = 0
    trained: int = 0
    stopped: bool = False
    ends: dict[int, tuple[End, str]] = field(default_factory=dict)


class Board:
    """The state of all attempts that run; an actor, one for a sweep."""

    def __init__(self) -> None:
        self._gangs: dict[Key, _Gang] = defaultdict(_Gang)
        self._changed = asyncio.Condition()

    async def go_on(self, key: Key) -> bool:
        """Tell a gang to train one more epoch, and return whether it has; asked by the trial's process."""
        gang = self._gangs[key]
        gang.allowed += 1
        await self._until(lambda: gang.trained >= gang.allowed or gang.stopped)
        return gang.trained >= gang.allowed

    async def trained(self, key: Key) -> bool:
        """Say that an epoch is on record; return whether to go on, once known; asked by the first worker."""
        gang = self._gangs[key]
        gang.trained += 1
        await self._until(lambda: gang.allowed > gang.trained or gang.stopped)
        return not gang.stopped

    async def stop(self, key: Key) -> None:
        """Let a gang's workers leave at the end of their epoch."""
        self._gangs[key].stopped = True
        await self._tell()

    async def stop_all(self) -> None:
        """Let the workers of all gangs leave."""
        for key in list(self._gangs):
            await self.stop(key)

    async def failed(self, key: Key, rank: int, end: End, trace: str) -> None:
        """Say how a worker has ended."""
        self._gangs[key].ends[rank] = end, trace

    async def take_ends(self, key: Key) -> dict[int, tuple[End, str]]:
        """Return what a gang's workers have said, and forget the gang."""
        gang = self._gangs.pop(key, None) or _Gang()
        gang.stopped = True
        await self._tell()
        return gang.ends

    async def _until(self, true: Callable[[], bool]) -> None:
        await self._tell()
        async with self._changed:
            await self._changed.wait_for(true)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
