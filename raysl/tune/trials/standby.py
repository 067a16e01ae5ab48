"""A warm process for the trial whose own was killed.

A new process takes seconds to start and to import torch. The standby has done both: it takes the trial up at
once, and the new process, when it is there, only passes the messages on until that trial has ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ray

from raysl.tune.trials.messages import End, Launch, Row

_ANSWER_S = 2.0


class Standby:
    """The driver's side: one idle process, and those that stand in for a dead one.

    They hold no resources of their own, because they use those of the process that died.

    Args:
        shared: for each form of the trials, a reference to (images, loop).
    """

    def __init__(self, shared: list[Any]) -> None:
        self._shared = shared
        self._idle: Any = None
        self._ready: Any = None
        self._taken: list[Any] = []

    def warm(self) -> None:
        """Start a process, if none is idle."""
        if self._idle is None:
            self._idle = ray.remote(num_cpus=0, max_restarts=0)(_Process).remote(self._shared)
            self._ready = self._idle.ready.remote()

    def take(self, launch: Launch) -> Launch:
        """Have the standby begin a trial; return the launch with it, or as it was if it is not ready."""
        if self._idle is None or not ray.wait([self._ready], timeout=0)[0]:
            return launch
        taken, self._idle = self._idle, None
        try:
            # It may have been killed since it was ready, and that is to cost the trial no attempt.
            ray.get(taken.ready.remote(), timeout=_ANSWER_S)
        except ray.exceptions.RayError:
            ray.kill(taken)
            return launch
        taken.begin.remote(launch)
        self._taken.append(taken)
        return replace(launch, standby=taken)

    def give_back(self, launch: Launch, *, lost: bool) -> None:
        """End the process that a launch was given; at once if the trial goes on elsewhere."""
        if launch.standby is None:
            return
        self._taken.remove(launch.standby)
        if lost:
            ray.kill(launch.standby)
        else:
            launch.standby.finish.remote()
            launch.standby.__ray_terminate__.remote()

    def end(self) -> None:
        """End all processes."""
        for process in [self._idle, *self._taken]:
            if process is not None:
                ray.kill(process)
        self._idle, self._taken = None, []


class _Process:
    """The standby itself."""

    def __init__(self, shared: list[Any]) -> None:
        from raysl.tune.trials.runner import TrialRunner

        self._runner = TrialRunner(lambda fidelity: ray.get(shared[fidelity]))
        self._ahead: Row | End | None = None

    def ready(self) -> None:
        """Answer when everything is imported."""

    def begin(self, launch: Launch) -> None:
        """Begin a trial and train its first epoch; nobody asks for it before the new process is there."""
        self._runner.begin(launch)
        self._ahead = self._runner.next()

    def next(self) -> Row | End:
        """Return the next message of the trial."""
        ahead, self._ahead = self._ahead, None
        return ahead if ahead is not None else self._runner.next()

    def finish(self) -> None:
        """Let go of the trial."""
        self._runner.finish()
