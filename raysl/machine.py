"""What this process may use: CPUs, memory and GPUs of its allocation, not of the bare machine.

A container, a systemd slice or a Slurm job usually owns a part of the machine. Ray, left alone, looks
at fewer places than we do (no parent cgroups, no Slurm), so the answer is found here and given to it.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil

from raysl.errors import InputError

GIB = 1024**3
MACHINE = "machine"


@dataclass(frozen=True)
class Allocation:
    """CPUs, memory and GPUs this process may use, and who set each limit.

    Args:
        cpus: whole CPUs, at least 1.
        memory_bytes: memory in bytes.
        gpus: visible NVIDIA GPUs.
        cpus_source: `machine`, `affinity`, `cgroup` or `Slurm`; other callers may name their own.
        memory_source: likewise.
        gpus_source: `machine` or `CUDA_VISIBLE_DEVICES`.
    """

    cpus: int
    memory_bytes: int
    gpus: int
    cpus_source: str = MACHINE
    memory_source: str = MACHINE
    gpus_source: str = MACHINE

    @property
    def source(self) -> str:
        """Return who set the limits, as one string: `CPUs cgroup, memory machine, GPUs machine`."""
        return f"CPUs {self.cpus_source}, memory {self.memory_source}, GPUs {self.gpus_source}"

    def describe(self) -> str:
        """Return the words a command's first line uses: `2 CPUs (cgroup), 23.4 GiB, 0 GPUs`."""
        cpus = f"{count(self.cpus, 'CPU')} ({self.cpus_source})"
        return ", ".join(
            [
                cpus,
                f"{self.memory_bytes / GIB:.1f} GiB" + _unless_machine(self.memory_source),
                count(self.gpus, "GPU") + _unless_machine(self.gpus_source),
            ]
        )


class Limit(NamedTuple):
    """One upper bound and who set it."""

    amount: float
    source: str


def allocation(env: Mapping[str, str] | None = None, root: Path = Path("/")) -> Allocation:
    """Return what this process may use: the tightest of machine, affinity, cgroup and Slurm.

    Args:
        env: environment variables; default `os.environ`.
        root: where `proc/` and `sys/` are looked for; tests give another.

    Raises:
        InputError: a Slurm variable is not a number.
    """
    env = os.environ if env is None else env
    cpus = _tightest([*_machine_cpus(), *_cgroup_cpus(root), *_slurm_cpus(env)])
    memory = _tightest(
        [Limit(psutil.virtual_memory().total, MACHINE), *_cgroup_memory(root), *_slurm_memory(env)]
    )
    gpus = _gpus(env)
    return Allocation(
        # A quota of 1.5 CPUs runs one busy worker well and two badly, hence down.
        cpus=max(1, math.floor(cpus.amount)),
        memory_bytes=int(memory.amount),
        gpus=int(gpus.amount),
        cpus_source=cpus.source,
        memory_source=memory.source,
        gpus_source=gpus.source,
    )


def count(number: int, noun: str) -> str:
    """Return `1 CPU`, `2 CPUs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _unless_machine(source: str) -> str:
    return "" if source == MACHINE else f" ({source})"


def _tightest(limits: list[Limit]) -> Limit:
    """Return the smallest; of equal ones the first, so that the wider authority is named."""
    return min(limits, key=lambda limit: limit.amount)


def _machine_cpus() -> Iterator[Limit]:
    yield Limit(os.cpu_count() or 1, MACHINE)
    # Also covers cpusets and `taskset`; macOS has no such call.
    if hasattr(os, "sched_getaffinity"):
        yield Limit(len(os.sched_getaffinity(0)), "affinity")


def _cgroup_cpus(root: Path) -> Iterator[Limit]:
    for directory in _cgroup_directories(root, "cpu"):
        quota, _, period = _read(directory / "cpu.max").partition(" ")
        if not quota:
            quota = _read(directory / "cpu.cfs_quota_us")
            period = _read(directory / "cpu.cfs_period_us")
        # "max" (v2) and "-1" (v1) mean no limit.
        if quota.isdigit() and period.isdigit():
            yield Limit(int(quota) / int(period), "cgroup")


def _cgroup_memory(root: Path) -> Iterator[Limit]:
    for directory in _cgroup_directories(root, "memory"):
        limit = _read(directory / "memory.max") or _read(directory / "memory.limit_in_bytes")
        # "max" (v2) and a number near 2**63 (v1) mean no limit; the latter loses against the machine.
        if limit.isdigit():
            yield Limit(int(limit), "cgroup")


def _cgroup_directories(root: Path, controller: str) -> Iterator[Path]:
    """Yield the control groups of this process that rule `controller`, from its own up to the mount's root.

    A limit may sit at any level: Slurm and Kubernetes set it above the group a process sees itself in.
    In a container the path in `/proc/self/cgroup` may be the host's and not exist here; walking up
    then ends at the mount's root, which is the container's own group.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            bases = [mounts, mounts / "unified"]
        elif controller in controllers.split(","):
            bases = [mounts / name for name in dict.fromkeys((controllers, controller))]
        else:
            continue
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for base in bases:
            for depth in range(len(parts), -1, -1):
                yield base.joinpath(*parts[:depth])


def _read(path: Path) -> str:
    """Return a kernel file's text; no file means that no limit is set at this level."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _slurm_cpus(env: Mapping[str, str]) -> Iterator[Limit]:
    for name in ("SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"):
        if name in env:
            yield Limit(_slurm_number(env, name), "Slurm")


def _slurm_memory(env: Mapping[str, str]) -> Iterator[Limit]:
    """Yield Slurm's memory limits, which it gives in MiB; 0 asks for all of the node."""
    per_node = _slurm_number(env, "SLURM_MEM_PER_NODE")
    per_cpu = _slurm_number(env, "SLURM_MEM_PER_CPU") * _slurm_number(env, "SLURM_CPUS_ON_NODE")
    for mebibytes in (per_node, per_cpu):
        if mebibytes:
            yield Limit(mebibytes * 1024**2, "Slurm")


def _slurm_number(env: Mapping[str, str], name: str) -> int:
    text = env.get(name, "0")
    if not text.isdigit():
        raise InputError(
            f"{name}={text!r} is not a whole number as Slurm writes it; unset it or set it to the job's value"
        )
    return int(text)


def _gpus(env: Mapping[str, str]) -> Limit:
    """Count the GPUs CUDA would see, without CUDA: the driver's count, cut by CUDA_VISIBLE_DEVICES."""
    present = _driver_gpus()
    listed = env.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return Limit(present, MACHINE)
    visible = 0
    for name in (part.strip() for part in listed.split(",")):
        # As CUDA does: the first entry that names no device hides the rest.
        is_index = name.isdigit() and int(name) < present
        is_uuid = present > 0 and name.startswith(("GPU-", "MIG-"))
        if not (is_index or is_uuid):
            break
        visible += 1
    return Limit(visible, "CUDA_VISIBLE_DEVICES")


def _driver_gpus() -> int:
    """Return the number of GPUs NVIDIA's management library lists; 0 where there is no driver.

    NVML rather than torch, which takes two seconds to import, or `/proc`, which in some containers
    lists GPUs that were not granted.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    devices = ctypes.c_uint(0)
    status = nvml.nvmlDeviceGetCount_v2(ctypes.byref(devices))
    nvml.nvmlShutdown()
    return devices.value if status == 0 else 0
