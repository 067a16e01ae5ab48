"""The `ray` feed has the batches of the `memory` feed, and never more than a few of them at a time.

Threads do the work of Ray's tasks here, because they run the same functions.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
import torch

from raysl.data import encoded as encoded_module
from raysl.data import feeds
from raysl.data.batches import Batch
from raysl.data.config import DataConfig
from raysl.data.feeds import choose_feed
from raysl.data.grid import views_grid
from raysl.data.ray_feed import RayFeed
from raysl.data.views import ViewPipeline

from .crews import VIEWS, Crew, assert_same, both, feed
from .made import Encode, WriteParquet


def test_feeds_have_the_same_batches_to_the_bit(source: DataConfig) -> None:
    memory, encoded = both(source)
    assert memory.statistics == encoded.statistics
    one, other = feed(memory, plain_views=1), feed(encoded, plain_views=1)
    assert isinstance(other, RayFeed)
    assert one.steps_per_epoch == other.steps_per_epoch == 5
    for epoch in (0, 1, 5):
        assert_same(one.epoch(epoch), other.epoch(epoch))


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_the_global_batches(source: DataConfig, workers: int) -> None:
    memory, encoded = both(source)
    alone = list(feed(memory).epoch(2))
    together = [list(feed(encoded, rank=rank, world_size=workers).epoch(2)) for rank in range(workers)]
    assert {len(batches) for batches in together} == {len(alone)}
    joined = [
        Batch(
            [torch.cat(views) for views in zip(*(part.views for part in parts), strict=True)],
            torch.cat([part.labels for part in parts if part.labels is not None]),
            torch.cat([part.indices for part in parts]),
        )
        for parts in zip(*together, strict=True)
    ]
    assert_same(alone, joined)


def test_every_epoch_has_every_image_once_in_another_order(source: DataConfig) -> None:
    _, encoded = both(source)
    orders = [
        torch.cat([batch.indices for batch in feed(encoded, 9).epoch(epoch)]).tolist() for epoch in (0, 1)
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(encoded)))
    assert orders[0] != orders[1] != list(range(len(encoded)))


def test_the_middle_of_an_epoch_is_reached_without_decoding_what_was_before(source: DataConfig) -> None:
    crew = Crew()
    memory, encoded = both(source, crew)
    crew.images.clear()
    assert_same(list(feed(memory).epoch(4))[3:], feed(encoded, epochs=5).epoch(4, start_step=3))
    assert crew.images == {"decode": 2 * 16}


def test_a_few_batches_are_under_way_and_no_more(source: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_module, "_MOST_IMAGES", 8)
    crew = Crew()
    _, encoded = both(source, crew)
    crew.most_waiting = 0
    slow = feed(encoded, 16)
    assert isinstance(slow, RayFeed)
    assert slow.ahead == 2
    crew.images.clear()
    batches = slow.epoch(0)
    for taken in range(1, 4):
        next(batches)
        assert crew.images["decode"] == (taken + slow.ahead) * 16
    assert crew.most_waiting == slow.ahead * 2


def test_little_room_leaves_one_batch_under_way(source: DataConfig) -> None:
    crew = Crew()
    _, encoded = both(source, crew)
    crew.free = 100_000
    tight = feed(encoded)
    assert isinstance(tight, RayFeed)
    assert tight.ahead == 1
    assert len(list(tight.epoch(0))) == 5


def test_the_next_epoch_is_under_way_when_one_ends_and_nothing_after_the_last(source: DataConfig) -> None:
    crew = Crew()
    memory, encoded = both(source, crew)
    two = feed(encoded, epochs=2)
    crew.images.clear()
    first = list(two.epoch(0))
    assert crew.images["decode"] > 5 * 16
    second = list(two.epoch(1))
    assert crew.images["decode"] == 2 * 5 * 16
    assert not crew.waiting
    assert_same([*first, *second], [*feed(memory).epoch(0), *feed(memory).epoch(1)])


def test_an_epoch_that_was_left_is_not_mistaken_for_another(source: DataConfig) -> None:
    memory, encoded = both(source)
    changing = feed(encoded)
    next(changing.epoch(0))
    assert_same(changing.epoch(6), feed(memory).epoch(6))


def test_auto_says_what_it_chose_and_why(
    source: DataConfig, encoded: Encode, write_parquet: WriteParquet
) -> None:
    assert choose_feed(source.model_copy(update={"feed": "ray"})) == feeds.Choice("ray")
    small = choose_feed(source)
    assert small.feed == "memory"
    assert "fit in 25% of this node's memory" in small.line
    tight = choose_feed(source.model_copy(update={"memory_limit": 1e-9}))
    assert tight.feed == "ray"
    assert "are more than data.memory_limit" in tight.line
    assert choose_feed(DataConfig()).feed == "memory"
    write_parquet(Path(source.source) / "train-9.parquet", encoded(20, (9, 15)), [0] * 20)
    mixed = choose_feed(source)
    assert mixed.feed == "ray"
    assert "images have sizes of their own" in mixed.line
    assert choose_feed(source.model_copy(update={"image_size": 9})).feed == "memory"


def test_the_grid_is_the_same(source: DataConfig) -> None:
    memory, encoded = both(source)
    pipeline = ViewPipeline(VIEWS, memory.statistics, memory.size)
    assert np.array_equal(views_grid(memory, pipeline), views_grid(encoded, pipeline))


def test_an_epoch_left_early_keeps_nothing_that_was_made_ahead(source: DataConfig) -> None:
    crew = Crew()
    _, encoded = both(source, crew)
    threads = set(threading.enumerate())
    left = feed(encoded)
    assert isinstance(left, RayFeed)
    batches = left.epoch(0)
    next(batches)
    references = [weakref.ref(handle) for handle in crew.waiting]
    crew.waiting.clear()
    assert references
    assert isinstance(batches, Generator)
    batches.close()

    def wait_until(true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    wait_until(lambda: not any(reference() for reference in references))
    del left, batches
    wait_until(lambda: set(threading.enumerate()) == threads)
