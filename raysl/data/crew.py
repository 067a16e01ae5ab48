"""Who does the work of the `ray` feed: processes of a connected Ray, or threads of this process.

Threads serve what only looks (`--dry-run`) and tests; they take the same functions and give the same results.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import psutil

from raysl.errors import InputError, RayslError

_RETRIES = 2
"""Of what a process was doing when it died, because that may be what killed it."""

Function = Callable[..., Any]
Handle = Any
"""A result to come; where the crew is Ray's, a reference to an object."""


class CrewDied(RayslError):
    """A process of a crew died, and again each time the same work was tried."""


class Crew(Protocol):
    """Runs functions whose first argument is a list of sources, which may be handles of earlier results."""

    @property
    def slots(self) -> int:
        """How many functions run at a time."""

    @property
    def room(self) -> int:
        """Bytes that results may take in all."""

    def share_out(self, consumers: int) -> None:
        """Divide among processes that this crew is sent to."""

    def submit(self, function: Function, sources: Sequence[Any], *args: Any) -> Handle:
        """Begin a function and return a handle of its result."""

    def submit_pair(self, function: Function, sources: Sequence[Any], *args: Any) -> tuple[Handle, Handle]:
        """Begin a function that returns two results, and return a handle of each."""

    def result(self, handle: Handle) -> Any:
        """Wait for a result; arrays of it are read-only. Raises what the function raised, or `CrewDied`."""


class ThreadCrew:
    """Threads of this process."""

    def __init__(self, threads: int | None = None) -> None:
        self._slots = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._slots)

    def __reduce__(self) -> tuple[Any, ...]:
        return ThreadCrew, (self._slots,)

    def share_out(self, consumers: int) -> None:
        """Divide among processes that this crew is sent to, which have threads of their own."""
        self._slots = max(1, (os.cpu_count() or 1) // consumers)

    @property
    def slots(self) -> int:
        """How many threads there are."""
        return self._slots

    @property
    def room(self) -> int:
        """Bytes of memory that are free."""
        return int(psutil.virtual_memory().available)

    def submit(self, function: Function, sources: Sequence[Any], *args: Any) -> Handle:
        """Begin a function and return a handle of its result."""
        return self._pool.submit(_in_thread, function, list(sources), args)

    def submit_pair(self, function: Function, sources: Sequence[Any], *args: Any) -> tuple[Handle, Handle]:
        """Begin a function that returns two results, and return a handle of each."""
        both = self.submit(function, sources, *args)
        return self._pool.submit(_part, both, 0), self._pool.submit(_part, both, 1)

    def result(self, handle: Handle) -> Any:
        """Wait for a result; raises what the function raised."""
        return handle.result()


class RayCrew:
    """Processes of the Ray that this process is connected to: one for each CPU, started when they are needed.

    Actors, because tasks without CPUs get a process each however many are queued, and tasks with one would
    never start where training holds all CPUs and waits for them. They ask for none, for the same reason, and
    stay out of the placement group of the worker that starts them. They end with the crew.

    Args:
        labels: only nodes with these labels, such as `{"role": "cpu"}`.
        consumers: how many processes have such a crew; CPUs and room are divided among them.

    Raises:
        InputError: no living node has these labels.
    """

    def __init__(self, labels: dict[str, str] | None = None, consumers: int = 1) -> None:
        import ray

        self._labels, self._consumers = labels, consumers
        self._nodes = [node for node in ray.nodes() if node["Alive"] and _fits(node["Labels"], labels or {})]
        if not self._nodes:
            wanted = ", ".join(f"{name}={value}" for name, value in (labels or {}).items())
            raise InputError(
                f"data.decode_labels: no node of the cluster has {wanted}; start nodes with "
                "`ray start --labels` or leave the key out"
            )
        self._members: list[Any] = []
        self._turn = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return RayCrew, (self._labels, self._consumers)

    def share_out(self, consumers: int) -> None:
        """Divide among processes that this crew is sent to; its own processes end."""
        self._consumers = consumers
        self._members = []

    @property
    def slots(self) -> int:
        """How many processes there are: CPUs of the nodes, divided among the consumers."""
        cpus = sum(node["Resources"].get("CPU", 0.0) for node in self._nodes)
        return max(1, int(cpus) // self._consumers)

    @property
    def room(self) -> int:
        """Bytes of the object stores of these nodes, divided among the consumers."""
        store = sum(node["Resources"].get("object_store_memory", 0.0) for node in self._nodes)
        return int(store) // self._consumers

    def submit(self, function: Function, sources: Sequence[Any], *args: Any) -> Handle:
        """Begin a function and return a handle of its result."""
        return self._member().run.remote(function, list(sources), args)

    def submit_pair(self, function: Function, sources: Sequence[Any], *args: Any) -> tuple[Handle, Handle]:
        """Begin a function that returns two results, and return a handle of each."""
        both = self._member().run.options(num_returns=2).remote(function, list(sources), args)
        return both[0], both[1]

    def result(self, handle: Handle) -> Any:
        """Wait for a result; raises what the function raised, or `CrewDied`."""
        import ray

        try:
            return ray.get(handle)
        except ray.exceptions.RayTaskError as error:
            # Ray's own text is a trace; the cause is what the function raised.
            failure = error.cause
        except ray.exceptions.RayError as error:
            failure = error
        if isinstance(failure, ray.exceptions.RayActorError):
            raise CrewDied(
                f"a process that reads images died {1 + _RETRIES} times at the same work: of too little "
                "memory, or of an image that its decoder cannot stand"
            )
        if isinstance(failure, ray.exceptions.ObjectLostError):
            raise RayslError("images were lost with the node that kept them: the same command goes on")
        raise failure

    def _member(self) -> Any:
        """Return whose turn it is."""
        import ray

        if not self._members:
            # The strategy that is not given would be that of the caller's placement group.
            member = ray.remote(_Member).options(
                num_cpus=0, scheduling_strategy="SPREAD", label_selector=self._labels,
                max_restarts=-1, max_task_retries=_RETRIES,
            )  # fmt: skip
            self._members = [member.remote() for _ in range(self.slots)]
        self._turn = (self._turn + 1) % len(self._members)
        return self._members[self._turn]


class _Member:
    """One process of a crew."""

    def run(self, function: Function, sources: list[Any], args: tuple[Any, ...]) -> Any:
        import ray

        # All at once: waiting for one after the other costs a round trip each.
        given = [place for place, source in enumerate(sources) if isinstance(source, ray.ObjectRef)]
        for place, result in zip(given, ray.get([sources[place] for place in given]), strict=True):
            sources[place] = result
        return function(sources, *args)


def connected_crew(labels: dict[str, str] | None = None) -> Crew:
    """Return processes of the Ray that this process is connected to; threads where there is none."""
    ray = sys.modules.get("ray")
    return RayCrew(labels) if ray is not None and ray.is_initialized() else ThreadCrew()


def _in_thread(function: Function, sources: list[Any], args: tuple[Any, ...]) -> Any:
    return function([s.result() if isinstance(s, Future) else s for s in sources], *args)


def _part(both: Future[tuple[Any, Any]], place: int) -> Any:
    return both.result()[place]


def _fits(labels: dict[str, str], wanted: dict[str, str]) -> bool:
    """Return whether a node has the labels that are wanted."""
    return all(_allows(selector, labels.get(name)) for name, selector in wanted.items())


def _allows(selector: str, label: str | None) -> bool:
    """Return whether Ray would: `cpu`, `in(cpu, big)`, `!gpu` and `!in(gpu, tpu)`."""
    listed = re.fullmatch(r"!?in\((.*)\)", selector)
    allowed = listed[1].split(",") if listed else [selector.removeprefix("!")]
    return (label in [value.strip() for value in allowed]) != selector.startswith("!")
