"""Use a Ray for the length of a `with` block: a private one started here, or one that was asked for."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raysl.cluster import private
from raysl.cluster.address import Target, check_alive, resolve
from raysl.cluster.environment import ray_environment, read_token_again
from raysl.cluster.scratch import scratch_directory
from raysl.errors import InputError, RayslError
from raysl.machine import GIB, Allocation, count

if TYPE_CHECKING:
    from ray._private.worker import BaseContext

# What may be given as `where` for the Ray that this process has connected to.
_names_in_use: set[str] = set()


@dataclass(frozen=True)
class ClusterInfo:
    """A Ray in use.

    Args:
        address: `HOST:PORT` of its control store.
        started: whether this block started it and will end it.
        how: how it came to be used, for people: `local, started here`, `joined 10.0.0.1:6379 (RAY_ADDRESS)`.
        nodes: living nodes.
        cpus: CPUs of all nodes, as Ray counts them; fractions are cut.
        memory_bytes: memory of all nodes, object stores included.
        gpus: GPUs of all nodes.
        object_store_bytes: room for shared objects on all nodes.
        dashboard: URL of the dashboard of a Ray started here; None without one.
        limits: where the numbers of a Ray started here come from; None for another.
    """

    address: str
    started: bool
    how: str
    nodes: int
    cpus: int
    memory_bytes: int
    gpus: int
    object_store_bytes: int
    dashboard: str | None = None
    limits: Allocation | None = None

    def describe(self) -> str:
        """Return a command's first line: `Ray: local, started here, 2 CPUs (cgroup), 23.4 GiB, 0 GPUs`."""
        if self.limits is not None:
            return f"Ray: {self.how}, {self.limits.describe()}"
        totals = [count(self.nodes, "node"), count(self.cpus, "CPU")]
        totals += [f"{self.memory_bytes / GIB:.1f} GiB", count(self.gpus, "GPU")]
        return f"Ray: {self.how}, {', '.join(totals)}"


@contextlib.contextmanager
def connect(
    where: str = "auto",
    *,
    cpus: int | None = None,
    gpus: int | None = None,
    object_store_memory: int | None = None,
    dashboard: bool = True,
    log_to_driver: bool = False,
    timeout_s: float = 5.0,
) -> Iterator[ClusterInfo]:
    """Use a Ray for the length of the block.

    A Ray that somebody else started is joined only if `where` or RAY_ADDRESS names it, and left running.
    Inside another `connect`, or where the process has called `ray.init` itself, that Ray is used on.

    Args:
        where: `auto` (the Ray RAY_ADDRESS names, else a private one), `local` (private) or `HOST:PORT`.
        cpus: CPUs of a private Ray; default the allocation's. More is allowed: Ray only counts them.
        gpus: GPUs of a private Ray, at most the allocation's; default all.
        object_store_memory: bytes for objects of a private Ray; default 30 % of the allocation's memory.
        dashboard: run a private Ray's dashboard, on a free port of this machine only. Without it Ray Train
            leaks the placement groups of runs that are killed; it makes the start some seconds longer.
        log_to_driver: print what workers print.
        timeout_s: seconds to wait for an address to answer.

    Raises:
        InputError: a bad address, nothing alive there, or a size that cannot be had.
        RayslError: Ray did not start.
    """
    target = resolve(where)
    sizes = {"cpus": cpus, "gpus": gpus, "object_store_memory": object_store_memory}
    with contextlib.ExitStack() as stack:
        # Ray Train reads its variables when it is imported, so they come before even `import ray`.
        stack.enter_context(ray_environment(private=target.address is None))
        import ray

        running = _address() if ray.is_initialized() else target.address
        for name, size in sizes.items():
            if running and size is not None:
                raise InputError(f"{name} is for a Ray started here; {running} runs already, so leave it out")
        if ray.is_initialized():
            yield _already_connected(target, where)
        elif target.address is None:
            options = {"include_dashboard": dashboard, "log_to_driver": log_to_driver}
            yield stack.enter_context(_start(private.limits(cpus, gpus), object_store_memory, options))
        else:
            check_alive(target, timeout_s)
            yield stack.enter_context(_join(target, target.address, where, log_to_driver))


def _already_connected(target: Target, where: str) -> ClusterInfo:
    """Return the Ray this process is connected to, if it can be what `where` means."""
    address = _address()
    if where != "auto" and where not in _names_in_use and target.address != address:
        raise InputError(
            f"--cluster {where}: this process is connected to the Ray at {address} already; "
            "use auto, or call ray.shutdown() first"
        )
    return _in_use(f"this process's own at {address}")


@contextlib.contextmanager
def _start(limits: Allocation, store: int | None, options: dict[str, Any]) -> Iterator[ClusterInfo]:
    store = private.object_store_bytes(store, limits.memory_bytes)
    on_disk = store > private.free_bytes()
    with scratch_directory() as directory, private.ending_processes(directory):
        options |= {
            "address": "local",
            "num_cpus": limits.cpus,
            "num_gpus": limits.gpus,
            "object_store_memory": store,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": 0,
            "_memory": limits.memory_bytes - store,
            "_temp_dir": str(directory),
        }
        with _driver({"local"}, options, lambda why: RayslError(f"Ray did not start here: {why}")) as context:
            yield ClusterInfo(
                address=_address(),
                started=True,
                how="local, started here" + (", objects on disk as /dev/shm is small" if on_disk else ""),
                nodes=1,
                cpus=limits.cpus,
                memory_bytes=limits.memory_bytes,
                gpus=limits.gpus,
                object_store_bytes=store,
                dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else None,
                limits=limits,
            )


@contextlib.contextmanager
def _join(target: Target, address: str, where: str, log_to_driver: bool) -> Iterator[ClusterInfo]:
    import ray

    def refused(why: str) -> RayslError:
        return InputError(
            f"{target.asked_by}: the Ray at {address} does not take this driver ({why}); "
            "it needs the same Ray and Python versions and, if it asks for a token, "
            "RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )

    options = {"address": address, "log_to_driver": log_to_driver}
    try:
        with _driver({where, address}, options, refused):
            yield _in_use(f"joined {address} ({target.asked_by})")
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _driver(
    names: set[str], options: dict[str, Any], failure: Callable[[str], RayslError]
) -> Iterator[BaseContext]:
    """Connect quietly, and give SIGTERM, which `ray.init` takes, back: training saves its state there.

    Where the caller has no handler, Ray's stays for the block: it leaves through the `finally` clauses.
    """
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    # None is a handler that C code has set, which Python cannot set again.
    restorable = handler is not None and threading.current_thread() is threading.main_thread()
    read_token_again()
    try:
        try:
            context = ray.init(logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises this very class when a part of it does not come up
            lines = str(error).strip().splitlines()
            raise failure(lines[0] if lines else type(error).__name__) from error
        logging.getLogger("ray").setLevel(logging.WARNING)
        if restorable and handler is not signal.SIG_DFL:
            signal.signal(signal.SIGTERM, handler)
        _names_in_use.update(names)
        yield context
    finally:
        _names_in_use.clear()
        if restorable:
            signal.signal(signal.SIGTERM, handler)


def _in_use(how: str) -> ClusterInfo:
    """Return what all living nodes of the connected Ray have; it was not started by this block."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def total(resource: str) -> int:
        return int(sum(node.get(resource, 0) for node in alive))

    store = total("object_store_memory")
    return ClusterInfo(
        address=_address(),
        started=False,
        how=how,
        nodes=len(alive),
        cpus=total("CPU"),
        memory_bytes=total("memory") + store,
        gpus=total("GPU"),
        object_store_bytes=store,
    )


def _address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)
