"""Options of the test suite, and what its parts share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from raysl.cluster.connect import ClusterInfo

# Before torch is imported, and inherited by the processes that tests start: many small jobs share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        metavar="DIR",
        help="also run the golden vectors of this directory (INDEX.json and its .npz files)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The shared Ray stays until the end, and tests that start one of their own in this process need none.
    items.sort(key=lambda item: "ray_cluster" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[ClusterInfo]:
    """The one private Ray of a test session that runs in this process: 2 CPUs, no dashboard."""
    from raysl.cluster.connect import connect

    with connect("local", cpus=2, gpus=0, object_store_memory=200 * 1024**2, dashboard=False) as info:
        yield info
