"""A private Ray on this machine: its sizes, and its end."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from raysl.errors import InputError
from raysl.machine import GIB, Allocation, allocation

OBJECT_STORE_SHARE = 0.3
SMALLEST_OBJECT_STORE = 75 * 1024**2  # Ray refuses less
DISK_OBJECT_STORE = 2 * GIB  # where /dev/shm is tiny, as in a container with Docker's defaults
LAST_WORDS_S = 1.0


def limits(cpus: int | None, gpus: int | None) -> Allocation:
    """Return the allocation, with the sizes that were asked for in place of its own.

    Args:
        cpus: CPUs asked for, also more than there are: Ray only counts them.
        gpus: GPUs asked for, at most those that can be seen.

    Raises:
        InputError: no CPU, or GPUs that are not there.
    """
    found = allocation()
    if cpus is not None:
        if cpus < 1:
            raise InputError(f"cpus={cpus}: expected at least 1 CPU for a private Ray")
        source = "asked for" if cpus <= found.cpus else f"asked for; {found.cpus_source} has {found.cpus}"
        found = dataclasses.replace(found, cpus=cpus, cpus_source=source)
    if gpus is not None:
        if not 0 <= gpus <= found.gpus:
            raise InputError(
                f"gpus={gpus}: expected 0 to {found.gpus}, the GPUs that can be seen ({found.gpus_source})"
            )
        found = dataclasses.replace(found, gpus=gpus, gpus_source="asked for")
    return found


def object_store_bytes(asked: int | None, memory_bytes: int, shared_memory: Path = Path("/dev/shm")) -> int:
    """Return the object store's size: what was asked for, or the share of the memory that /dev/shm holds.

    Args:
        asked: bytes, or None.
        memory_bytes: memory of the allocation.
        shared_memory: the memory file system objects are put on.

    Raises:
        InputError: less than Ray takes, or more than there is.
    """
    if asked is None:
        room = max(free_bytes(shared_memory), DISK_OBJECT_STORE)
        return max(min(int(OBJECT_STORE_SHARE * memory_bytes), room), SMALLEST_OBJECT_STORE)
    if not SMALLEST_OBJECT_STORE <= asked < memory_bytes:
        raise InputError(
            f"object_store_memory={asked}: expected bytes, from {SMALLEST_OBJECT_STORE} "
            f"to less than the {memory_bytes} of this allocation"
        )
    return asked


def free_bytes(shared_memory: Path = Path("/dev/shm")) -> int:
    """Return what the object store may take of the shared memory; 0 where there is none, as on macOS."""
    return int(0.95 * shutil.disk_usage(shared_memory).free) if shared_memory.is_dir() else 0


@contextlib.contextmanager
def ending_processes(directory: Path) -> Iterator[None]:
    """End with the block whatever processes of the Ray in `directory` its body and `ray.shutdown` leave.

    A dashboard's helpers would stay for seconds and write logs; a Ray that failed to start leaves all of it.
    """
    import ray

    try:
        yield
    finally:
        processes = _ray_processes(directory)
        ray.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=LAST_WORDS_S)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=LAST_WORDS_S)


def _ray_processes(directory: Path) -> list[psutil.Process]:
    """Return this process's children that serve the Ray in `directory`, and all that they have started."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(str(directory) in argument for argument in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found
