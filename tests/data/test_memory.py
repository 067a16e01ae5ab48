"""Batches: the same images in the same order for any number of workers, each once an epoch."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from typing import Any

import pytest
import torch

from raysl.data.batches import Batch, Batching
from raysl.data.config import ViewsConfig
from raysl.data.decoded import Decoded, Normalization
from raysl.data.grid import views_grid
from raysl.data.memory import MemoryFeed, plain
from raysl.data.views import ViewPipeline
from raysl.errors import InputError

from .made import MakeDecoded


def feed(data: Decoded, batch_size: int = 8, **options: Any) -> MemoryFeed:
    normalization = Normalization((0.5,) * data.channels, (0.25,) * data.channels)
    pipeline = ViewPipeline(ViewsConfig(preset="w_mse"), normalization, data.size)
    return MemoryFeed(data, pipeline, Batching(batch_size, seed=3, **options))


def test_an_epoch_covers_every_image_once_but_the_rest(make_decoded: MakeDecoded) -> None:
    data = make_decoded(37)
    batches = list(feed(data).epoch(0))
    assert len(batches) == feed(data).steps_per_epoch == 4
    rows = torch.cat([batch.indices for batch in batches]).tolist()
    assert len(set(rows)) == len(rows) == 32
    assert rows != sorted(rows)
    left_out = [
        set(range(37)) - {row for batch in feed(data).epoch(e) for row in batch.indices.tolist()}
        for e in (0, 1)
    ]
    assert left_out[0] != left_out[1]
    for batch in batches:
        assert batch.labels is not None
        assert batch.labels.tolist() == [row % 5 for row in batch.indices.tolist()]
        assert [tuple(view.shape) for view in batch.views] == [(8, 3, 12, 12)] * 2
        assert all(view.dtype == torch.float32 for view in batch.views)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_the_global_batches_to_the_bit(make_decoded: MakeDecoded, workers: int) -> None:
    data = make_decoded(30)
    alone = list(feed(data).epoch(5))
    together = [list(feed(data, rank=rank, world_size=workers).epoch(5)) for rank in range(workers)]
    for step, batch in enumerate(alone):
        parts: list[Batch] = [worker[step] for worker in together]
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)
        for view, full in enumerate(batch.views):
            assert torch.equal(torch.cat([part.views[view] for part in parts]), full)


def test_an_epoch_continues_from_its_middle(make_decoded: MakeDecoded) -> None:
    data = make_decoded(30)
    whole, rest = list(feed(data).epoch(1)), list(feed(data).epoch(1, start_step=2))
    assert len(rest) == 1
    assert torch.equal(rest[0].views[1], whole[2].views[1])
    assert torch.equal(rest[0].indices, whole[2].indices)


def test_one_batch_is_made_ahead_and_an_epoch_left_early_leaves_no_thread(
    make_decoded: MakeDecoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, made, second = feed(make_decoded(40)), [], threading.Event()
    original = MemoryFeed._batch

    def counted(self: MemoryFeed, epoch: int, order: Any, step: int) -> Batch:
        batch = original(self, epoch, order, step)
        made.append(step)
        if step == 1:
            second.set()
        return batch

    monkeypatch.setattr(MemoryFeed, "_batch", counted)
    before = set(threading.enumerate())
    batches = subject.epoch(0)
    next(batches)
    assert second.wait(timeout=30)
    assert made == [0, 1]
    assert isinstance(batches, Generator)
    batches.close()
    assert set(threading.enumerate()) == before


def test_what_fails_while_a_batch_is_made_ahead_is_raised_in_its_turn(
    make_decoded: MakeDecoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MemoryFeed._batch

    def failing(self: MemoryFeed, epoch: int, order: Any, step: int) -> Batch:
        if step == 2:
            raise InputError("step 2 cannot be made")
        return original(self, epoch, order, step)

    monkeypatch.setattr(MemoryFeed, "_batch", failing)
    batches = feed(make_decoded(40)).epoch(0)
    next(batches), next(batches)
    with pytest.raises(InputError, match="step 2 cannot be made"):
        next(batches)


def test_float64_views_have_float32s_values(make_decoded: MakeDecoded) -> None:
    data = make_decoded(16)
    single, double = next(feed(data).epoch(0)), next(feed(data, dtype=torch.float64).epoch(0))
    assert double.views[0].dtype == torch.float64
    assert torch.equal(double.views[0], single.views[0].double())


def test_read_only_arrays_are_fine_and_unlabelled_ones_too(make_decoded: MakeDecoded) -> None:
    data = make_decoded(16, labelled=False)
    assert not data.images.flags.writeable
    before = data.images.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert next(feed(data).epoch(0)).labels is None
        list(plain(data, feed(data).views))
    assert (data.images == before).all()


def test_plain_images_come_in_order(make_decoded: MakeDecoded) -> None:
    data = make_decoded(10)
    parts = list(plain(data, feed(data).views, batch_size=4, dtype=torch.float64))
    assert [len(part) for part in parts] == [4, 4, 2]
    expected = (torch.from_numpy(data.images.copy()).double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "world_size", "told"),
    [
        (31, 1, "31 with 30 training images: choose 1 to 30"),
        (0, 1, "choose 1 to 30"),
        (10, 4, "does not divide among 4 workers: use 8 or 12"),
        (30, 4, "use 28$"),
        (2, 4, "use 4$"),
    ],
)
def test_batch_sizes_that_cannot_be_are_refused(
    make_decoded: MakeDecoded, batch_size: int, world_size: int, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        feed(make_decoded(30), batch_size, world_size=world_size)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_each_image_and_its_views(make_decoded: MakeDecoded, channels: int) -> None:
    data = make_decoded(5, channels=channels)
    picture = views_grid(data, feed(data, 1).views, rows=4)
    assert picture.shape == (4 * 14 - 2, 3 * 14 - 2, 3)
    assert picture.dtype.name == "uint8"
    third = picture[28:40, :12].transpose(2, 0, 1)
    assert abs(third.astype(int) - data.images[2].astype(int)).max() <= 1
    assert (picture[12:14] == 255).all()
    assert abs(picture[:12, 14:26].astype(int) - picture[:12, :12].astype(int)).max() > 3


def test_un_augmented_views_come_first_and_leave_the_others_alone(make_decoded: MakeDecoded) -> None:
    data = make_decoded(16)
    without, batch = next(feed(data).epoch(0)), next(feed(data, plain_views=1).epoch(0))
    assert len(batch.views) == 3
    shown = torch.cat(list(plain(data, feed(data).views)))
    assert torch.equal(batch.views[0], shown[batch.indices])
    assert all(torch.equal(a, b) for a, b in zip(without.views, batch.views[1:], strict=True))
