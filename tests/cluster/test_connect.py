"""Real Rays: one in this process, the others in driver processes that are joined, left and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from raysl.cluster.connect import ClusterInfo, connect
from raysl.cluster.environment import DEFAULTS
from raysl.cluster.private import limits, object_store_bytes
from raysl.cluster.scratch import PREFIX, sweep
from raysl.errors import InputError
from raysl.machine import GIB, Allocation

STORE = 100 * 1024**2
REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef" * 4

# Neither installed nor in the working directory, raysl is on this driver's own path only.
DRIVER = f"""
    import os, sys, time
    sys.path.insert(0, {str(REPOSITORY)!r})
    from raysl.cluster.connect import connect

    with connect("local", cpus=2, object_store_memory={STORE}, dashboard=sys.argv[1] == "dashboard") as info:
        import ray

        @ray.remote(num_cpus=2)
        def look():
            import raysl
            return raysl.__file__, os.environ["OMP_NUM_THREADS"]

        print(info.address, *ray.get(look.remote()), flush=True)
        time.sleep(120)
"""


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary directory with a path short enough for Ray's sockets; pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@contextmanager
def another_driver(tmp: Path, dashboard: bool = False) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run DRIVER in a process of its own; give it and the words of its first line."""
    hidden = ("OMP_NUM_THREADS", "PYTHONPATH", "RAY_ADDRESS")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), "dashboard" if dashboard else "plain"],
        cwd="/",
        env={**env, "TMPDIR": str(tmp), "RAY_AUTH_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words, "the driver ended before its Ray had started"
        yield process, words
    finally:
        process.kill()
        process.communicate(timeout=10)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if child.is_running()]


def test_a_private_ray_from_start_to_end(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_tmp))
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.7")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    environment = dict(os.environ)

    def handler(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handler)
    children = set(family(psutil.Process()))
    try:
        with connect("local", cpus=2, gpus=0, object_store_memory=STORE, dashboard=False) as info:
            import ray

            assert (info.started, info.nodes, info.cpus, info.gpus) == (True, 1, 2, 0)
            assert ray.cluster_resources()["CPU"] == 2
            assert ray.cluster_resources()["object_store_memory"] == info.object_store_bytes == STORE
            assert info.dashboard is None
            assert info.describe().startswith("Ray: local, started here, 2 CPUs (asked for")
            assert signal.getsignal(signal.SIGTERM) is handler
            assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "0.7"
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == DEFAULTS["RAY_USAGE_STATS_ENABLED"]
            assert [path.name[: len(PREFIX)] for path in short_tmp.iterdir()] == [PREFIX]

            for again in ("auto", "local", info.address):
                with connect(again) as inner:
                    assert (inner.address, inner.started, inner.cpus) == (info.address, False, 2)
            assert ray.is_initialized()
            with pytest.raises(InputError, match="connected to the Ray at"), connect("10.9.8.7:6379"):
                pytest.fail("one process has one Ray")
            with pytest.raises(InputError, match="cpus is for a Ray started here"), connect("auto", cpus=1):
                pytest.fail("a running Ray has its size")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not ray.is_initialized()
    assert set(family(psutil.Process())) == children
    assert list(short_tmp.iterdir()) == []
    assert dict(os.environ) == environment


def test_anothers_ray_is_joined_only_when_asked_and_left_running(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another_driver(short_tmp) as (process, (address, package, threads)):
        assert (package, threads) == (str(REPOSITORY / "raysl" / "__init__.py"), "2")
        import ray

        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with connect("auto", cpus=1, object_store_memory=STORE, dashboard=False) as mine:
            assert mine.started
            assert mine.address != address

        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        monkeypatch.setenv("RAY_ADDRESS", address)
        with connect("auto") as joined:
            assert joined.describe().startswith(f"Ray: joined {address} (RAY_ADDRESS), 1 node, 2 CPUs, ")
            assert (joined.address, joined.started, joined.object_store_bytes) == (address, False, STORE)
        assert not ray.is_initialized()
        with connect(address) as joined:
            assert f"{address} (--cluster)" in joined.describe()
        assert process.poll() is None
        with pytest.raises(InputError, match="gpus is for a Ray started here"), connect(address, gpus=0):
            pytest.fail("a running Ray has its size")


def test_nothing_survives_a_killed_driver(short_tmp: Path) -> None:
    with another_driver(short_tmp, dashboard=True) as (process, _):
        names = {child: child.name() for child in family(psutil.Process(process.pid))}
        assert {"gcs_server", "raylet"} <= set(names.values())
        assert any("dashboard" in " ".join(child.cmdline()) for child in names)
        assert sweep(short_tmp) == []
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        # Two agents first try, for 60 s fixed in Ray, to tell the dead control store that the raylet died.
        late = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        agents = [child for child, name in names.items() if name in late]
        assert len(agents) == 2
        _, alive = psutil.wait_procs([child for child in names if child not in agents], timeout=20)
        assert alive == []
        for agent in agents:
            agent.kill()
        assert len(sweep(short_tmp)) == 1
        assert list(short_tmp.glob(f"{PREFIX}*")) == []


def test_the_first_line() -> None:
    info = ClusterInfo("10.0.0.1:6379", False, "joined 10.0.0.1:6379 (RAY_ADDRESS)", 3, 24, 96 * GIB, 1, GIB)
    assert info.describe() == "Ray: joined 10.0.0.1:6379 (RAY_ADDRESS), 3 nodes, 24 CPUs, 96.0 GiB, 1 GPU"


def test_asked_sizes_are_named_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysl.cluster.private.allocation", lambda: Allocation(2, 8 * GIB, 1, "cgroup"))
    assert limits(None, None).describe() == "2 CPUs (cgroup), 8.0 GiB, 1 GPU"
    assert limits(1, 0).describe() == "1 CPU (asked for), 8.0 GiB, 0 GPUs (asked for)"
    assert limits(4, 1).describe().startswith("4 CPUs (asked for; cgroup has 2)")
    with pytest.raises(InputError, match="cpus=0"):
        limits(0, None)
    with pytest.raises(InputError, match="gpus=2: expected 0 to 1"):
        limits(None, 2)


def test_the_object_store_fits_into_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 100 * GIB
    monkeypatch.setattr("raysl.cluster.private.free_bytes", lambda path: int(0.95 * free))
    assert object_store_bytes(None, 10 * GIB, tmp_path) == 3 * GIB
    free = 2 * GIB
    assert object_store_bytes(None, 100 * GIB, tmp_path) == 2 * GIB
    assert object_store_bytes(5 * GIB, 10 * GIB, tmp_path) == 5 * GIB
    for impossible in (1, 10 * GIB):
        with pytest.raises(InputError, match=f"object_store_memory={impossible}"):
            object_store_bytes(impossible, 10 * GIB, tmp_path)
