"""Images of sizes of their own: cropped as they are decoded, shown as squares where nothing is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raysl.data.batches import Batching
from raysl.data.config import DataConfig, SelectionConfig, ViewsConfig
from raysl.data.decoded import normalization
from raysl.data.encoded import Encoded
from raysl.data.feeds import build_feed, evaluated_as, load_images
from raysl.data.indexing import index_training
from raysl.data.sources import load_training
from raysl.data.views import ViewPipeline
from raysl.errors import InputError

from .crews import VIEWS, Crew, both
from .made import Encode, WriteParquet


@pytest.fixture
def natural(tmp_path: Path, encoded: Encode, write_parquet: WriteParquet) -> DataConfig:
    """Images of sizes of their own."""
    images = [encoded(i + 1, (20 + 3 * i, 40 - i), "JPEG")[i] for i in range(12)]
    return DataConfig(source=str(write_parquet(tmp_path / "train.parquet", images, list(range(12)))))


CROPS = ViewsConfig(preset="simclr", size=16)


def test_images_of_sizes_of_their_own_are_cropped_by_tasks(natural: DataConfig) -> None:
    crew = Crew()
    whole = natural.model_copy(update={"selection": SelectionConfig(fraction=0)})
    encoded, _ = index_training(whole, crew, shown=16)
    assert encoded.natural
    squares = load_training(whole.model_copy(update={"image_size": 16}))[0]
    assert encoded.size == squares.size
    assert encoded.statistics == squares.statistics
    assert np.array_equal(encoded.rows(np.arange(12)).images, squares.images)
    assert evaluated_as(whole, CROPS).image_size == 16
    assert evaluated_as(whole, VIEWS).image_size is None
    pipeline = ViewPipeline(CROPS, normalization(whole, encoded), encoded.size)
    alone = list(build_feed(encoded, pipeline, Batching(4, seed=1, epochs=1, plain_views=1)).epoch(0))
    assert [tuple(view.shape) for view in alone[0].views] == [(4, 3, 16, 16)] * 3
    parts = [
        list(build_feed(encoded, pipeline, Batching(4, seed=1, epochs=1, rank=r, world_size=2)).epoch(0))
        for r in (0, 1)
    ]
    for place, batch in enumerate(alone):
        for view in (0, 1):
            joined = torch.cat([worker[place].views[view] for worker in parts])
            assert torch.equal(joined, batch.views[1 + view])
    assert not torch.equal(alone[0].views[1], alone[0].views[2])
    shown = encoded.rows(alone[0].indices.numpy()).images
    assert torch.equal(alone[0].views[0], pipeline.plain(torch.from_numpy(shown)))


def test_tasks_cut_the_boxes_that_the_views_would(source: DataConfig) -> None:
    """Forced to crop images of one size, they differ by their rounding to 8 bits."""
    only_crops = ViewsConfig.model_validate({"size": 8, "crop": {"scale": [0.3, 1.0]}})
    memory, encoded = both(source)
    pipeline = ViewPipeline(only_crops, memory.statistics, memory.size)
    forced = replace(encoded, natural=True, size=(8, 8))
    one, other = (
        next(build_feed(data, pipeline, Batching(16, seed=0, epochs=1)).epoch(0)) for data in (memory, forced)
    )
    std = torch.tensor(memory.statistics.std).view(1, 3, 1, 1)
    for a, b in zip(one.views, other.views, strict=True):
        assert 0 < float(((a - b) * std).abs().max()) < 1.1 / 255


def test_views_that_need_one_size_are_refused(natural: DataConfig) -> None:
    with pytest.raises(
        InputError, match=r"train.parquet row 1 is 39x23 .* set data.image_size .* views.size"
    ):
        load_images(natural, ViewsConfig(preset="w_mse", size=16), "ray")
    assert isinstance(load_images(natural, CROPS, "ray")[0], Encoded)
