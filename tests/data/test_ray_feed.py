"""The `ray` feed on a real Ray: what only tasks in other processes can show."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from raysl.cluster.connect import ClusterInfo
from raysl.data.batches import Batching
from raysl.data.config import DataConfig
from raysl.data.crew import CrewDied, RayCrew, ThreadCrew, connected_crew
from raysl.data.encoded import Encoded
from raysl.data.feeds import build_feed
from raysl.data.indexing import index_training
from raysl.data.sources import load_training
from raysl.data.views import ViewPipeline
from raysl.errors import InputError

from .crews import VIEWS, assert_same
from .made import Encode, WriteParquet

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, encoded: Encode, write_parquet: WriteParquet
) -> DataConfig:
    path = tmp_path_factory.mktemp("images") / "train.parquet"
    return DataConfig(source=str(write_parquet(path, encoded(80), [i % 4 for i in range(80)])))


@pytest.fixture(scope="module")
def read(images: DataConfig, ray_cluster: ClusterInfo) -> Encoded:
    crew = connected_crew()
    assert isinstance(crew, RayCrew)
    assert (crew.slots, crew.room) == (2, 200 * 1024**2)
    return index_training(images, crew)[0]


def views(data: Encoded) -> ViewPipeline:
    return ViewPipeline(VIEWS, data.statistics, data.size)


def test_batches_are_those_of_the_memory_feed(images: DataConfig, read: Encoded) -> None:
    memory, _ = load_training(images)
    assert memory.statistics == read.statistics
    assert all(isinstance(block, ray.ObjectRef) for block in read.blocks)
    one, other = (
        build_feed(data, views(read), Batching(12, seed=1, epochs=3, plain_views=1))
        for data in (memory, read)
    )
    for epoch in (0, 1):
        assert_same(one.epoch(epoch), other.epoch(epoch))
    assert_same(list(one.epoch(2))[4:], other.epoch(2, start_step=4))


@ray.remote(num_cpus=1)
def batches_there(shared: list[Encoded]) -> list[list[torch.Tensor]]:
    """Train, in another process, on images whose blocks this one holds."""
    (data,) = shared
    feed = build_feed(data, views(data), Batching(24, seed=1, epochs=1))
    return [batch.views for batch in feed.epoch(0)]


def test_a_worker_elsewhere_is_given_the_blocks_and_not_a_copy(read: Encoded) -> None:
    """Two of them take every CPU that Ray counts, and still get their images."""
    here = [batch.views for batch in build_feed(read, views(read), Batching(24, seed=1, epochs=1)).epoch(0)]
    for there in ray.get([batches_there.remote([read]), batches_there.remote([read])]):
        for mine, other in zip(here, there, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_decoded_images_leave_the_store(images: DataConfig, read: Encoded) -> None:
    """Large enough to be there at all: small results travel with messages."""
    large, _ = index_training(images.model_copy(update={"image_size": 64}), read.crew)

    def kept() -> int:
        gc.collect()
        free, total = ray.available_resources(), ray.cluster_resources()
        return int(total["object_store_memory"] - free["object_store_memory"])

    def wait_until(true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not true():
            assert time.monotonic() < deadline, f"{kept() - before} bytes"
            time.sleep(0.05)

    before, batch_bytes = kept(), 24 * 3 * 64 * 64
    feed = build_feed(large, views(large), Batching(24, seed=1, epochs=2))
    batches = feed.epoch(0)
    next(batches)
    wait_until(lambda: kept() - before >= 2 * batch_bytes)
    assert sum(1 for _ in batches) + sum(1 for _ in feed.epoch(1)) == 5
    wait_until(lambda: kept() <= before)


def test_tasks_run_where_their_labels_are(images: DataConfig, read: Encoded) -> None:
    (node,) = ray.nodes()
    here = RayCrew({"ray.io/node-id": node["Labels"]["ray.io/node-id"]})
    assert np.array_equal(index_training(images, here)[0].ids, read.ids)
    for selector in ("cpu", "in(cpu, big)"):
        with pytest.raises(InputError, match=r"data.decode_labels: no node of the cluster has role="):
            RayCrew({"role": selector})
    for selector in ("!gpu", "!in(gpu, tpu)"):
        assert len(index_training(images, RayCrew({"role": selector}))[0]) == len(read)


def die(sources: list[str]) -> int:
    """Kill the process that does it; once only where a file is given."""
    if not sources or not Path(sources[0]).exists():
        for path in sources:
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def test_what_a_process_died_of_is_tried_again_and_then_told(read: Encoded, tmp_path: Path) -> None:
    crew = read.crew
    assert crew.result(crew.submit(die, [str(tmp_path / "died")])) == 7
    with pytest.raises(CrewDied, match=r"^a process that reads images died 3 times at the same work: .*$"):
        crew.result(crew.submit(die, []))
    assert crew.result(crew.submit(die, [str(tmp_path)])) == 7


def test_threads_where_no_ray_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert isinstance(connected_crew(), ThreadCrew)


def test_what_a_task_raises_arrives_as_it_was(tmp_path: Path, images: DataConfig, read: Encoded) -> None:
    raw = bytearray(Path(images.source).read_bytes())
    raw[4:2000] = bytes(1996)
    file = tmp_path / "train.parquet"
    file.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        index_training(DataConfig(source=str(file)), read.crew)
    assert str(caught.value).startswith(f"{file} is not a readable Parquet file (")
    assert "\n" not in str(caught.value)
