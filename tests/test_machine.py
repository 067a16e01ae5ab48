from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from raysl import machine
from raysl.errors import InputError
from raysl.machine import GIB, Allocation, allocation

MIB = 1024**2


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 64 CPUs, all allowed, 256 GiB and four GPUs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=256 * GIB))
    monkeypatch.setattr(machine, "_driver_gpus", lambda: 4)


def kernel(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def test_without_limits_it_is_the_machine(tmp_path: Path) -> None:
    assert allocation({}, tmp_path) == Allocation(64, 256 * GIB, 4, "machine", "machine", "machine")
    assert allocation({}, tmp_path).describe() == "64 CPUs (machine), 256.0 GiB, 4 GPUs"


def test_affinity_limits_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    found = allocation({}, tmp_path)
    assert (found.cpus, found.cpus_source) == (3, "affinity")


def test_cgroup_v2_takes_the_tightest_level(tmp_path: Path) -> None:
    root = kernel(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/job/step",
            "sys/fs/cgroup/slice/cpu.max": "350000 100000",
            "sys/fs/cgroup/slice/job/cpu.max": "800000 100000",
            "sys/fs/cgroup/slice/job/step/cpu.max": "max 100000",
            "sys/fs/cgroup/slice/job/memory.max": str(8 * GIB),
            "sys/fs/cgroup/slice/job/step/memory.max": "max",
            "sys/fs/cgroup/elsewhere/memory.max": str(GIB),
        },
    )
    assert allocation({}, root).describe() == "3 CPUs (cgroup), 8.0 GiB (cgroup), 4 GPUs"


def test_cgroup_v1_with_joined_controllers_and_a_unified_twin(tmp_path: Path) -> None:
    root = kernel(
        tmp_path,
        {
            "proc/self/cgroup": "12:cpuset:/\n5:cpu,cpuacct:/box\n4:memory:/box/inner\n0::/",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "250000",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "50000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/memory/box/inner/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": str(6 * GIB),
            "sys/fs/cgroup/unified/cpu.max": "max 100000",
        },
    )
    found = allocation({}, root)
    assert (found.cpus, found.memory_bytes) == (5, 6 * GIB)
    assert found.source == "CPUs cgroup, memory cgroup, GPUs machine"


def test_a_container_whose_group_has_the_hosts_name_uses_the_mounts_root(tmp_path: Path) -> None:
    root = kernel(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../kubepods/pod1",
            "sys/fs/cgroup/cpu.max": "150000 100000",
            "sys/fs/cgroup/memory.max": str(GIB),
        },
    )
    found = allocation({}, root)
    assert (found.cpus, found.memory_bytes) == (1, GIB)


def test_part_of_a_cpu_is_one_cpu(tmp_path: Path) -> None:
    root = kernel(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000"})
    assert allocation({}, root).describe().startswith("1 CPU (cgroup)")


@pytest.mark.parametrize(
    ("env", "cpus", "memory"),
    [
        ({"SLURM_CPUS_ON_NODE": "16", "SLURM_CPUS_PER_TASK": "4"}, 4, 256 * GIB),
        ({"SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_NODE": "2048"}, 16, 2048 * MIB),
        ({"SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_CPU": "100"}, 16, 1600 * MIB),
        ({"SLURM_CPUS_ON_NODE": "16", "SLURM_MEM_PER_NODE": "0"}, 16, 256 * GIB),
    ],
)
def test_slurm(tmp_path: Path, env: dict[str, str], cpus: int, memory: int) -> None:
    found = allocation(env, tmp_path)
    assert (found.cpus, found.cpus_source, found.memory_bytes) == (cpus, "Slurm", memory)
    assert found.memory_source == ("machine" if memory == 256 * GIB else "Slurm")


def test_a_broken_slurm_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SLURM_MEM_PER_NODE='4G'.*whole number"):
        allocation({"SLURM_MEM_PER_NODE": "4G"}, tmp_path)


def test_the_cgroup_wins_over_a_wider_slurm_job(tmp_path: Path) -> None:
    root = kernel(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"})
    found = allocation({"SLURM_CPUS_ON_NODE": "8"}, root)
    assert (found.cpus, found.cpus_source) == (2, "cgroup")


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("0", 1),
        ("2,0", 2),
        ("0,1,2,3", 4),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("NoDevFiles", 0),
        ("0,9,1", 1),
        ("MIG-aaaa, GPU-bbbb", 2),
    ],
)
def test_visible_gpus_are_counted_as_cuda_does(tmp_path: Path, listed: str, gpus: int) -> None:
    found = allocation({"CUDA_VISIBLE_DEVICES": listed}, tmp_path)
    assert (found.gpus, found.gpus_source) == (gpus, "CUDA_VISIBLE_DEVICES")


def test_without_a_driver_a_listed_gpu_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_driver_gpus", lambda: 0)
    assert allocation({"CUDA_VISIBLE_DEVICES": "0,GPU-aaaa"}, tmp_path).gpus == 0
