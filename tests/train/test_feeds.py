"""A run does not tell which feed it had: the same losses, and a run may change it in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysl import api
from raysl.cluster.connect import ClusterInfo
from raysl.data.crew import ThreadCrew
from tests.data.made import encode, pictures
from tests.train.made import assert_same_bits, config, results, weights

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "train.parquet"
    images = pa.array([encode(picture) for picture in pictures(160, (8, 8))], pa.binary())
    pq.write_table(pa.table({"image": images, "label": np.arange(160) % 4}), file)
    return file


def run_config(source: Path, *overrides: str) -> dict[str, Any]:
    values = config("train.precision=float64", f"data.source={source}", *overrides).to_dict()
    values["views"] = {"preset": "simclr", "size": 8}
    return values


def trained(source: Path, runs: Path, name: str, *overrides: str) -> Path:
    lines: list[str] = []
    api.pretrain(run_config(source, *overrides), name=name, runs=runs, say=lines.append)
    path = runs / name
    (path / "said").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_both_feeds_train_the_same_to_the_bit(source: Path, tmp_path: Path, ray_cluster: ClusterInfo) -> None:
    memory = trained(source, tmp_path, "memory")
    ray = trained(source, tmp_path, "ray", "data.feed=ray")
    assert "feed: memory (auto;" in (memory / "said").read_text(encoding="utf-8")
    assert "Ray: this process's own" in (ray / "said").read_text(encoding="utf-8")
    assert len(results(ray)) == 3
    assert {"train/loss", "eval/knn_top1"} <= results(ray)[0][1].keys()
    assert results(ray) == results(memory)
    assert_same_bits(weights(ray), weights(memory))


def test_a_run_goes_on_with_another_feed(source: Path, tmp_path: Path, ray_cluster: ClusterInfo) -> None:
    half = ["train.epochs=2", "schedule.horizon=4"]
    whole = ["train.epochs=4", "schedule.horizon=4"]
    straight = trained(source, tmp_path, "straight", *whole)
    trained(source, tmp_path, "changed", *half, "data.feed=ray")
    changed = trained(source, tmp_path, "changed", *whole, "data.feed=memory")
    assert results(changed) == results(straight)
    assert_same_bits(weights(changed), weights(straight))


def test_workers_that_take_every_cpu_get_their_images(
    source: Path, tmp_path: Path, ray_cluster: ClusterInfo
) -> None:
    alone = trained(source, tmp_path, "alone", "train.epochs=2")
    two = trained(source, tmp_path, "two", "train.epochs=2", "data.feed=ray", "launch.workers=2")
    losses = [[metrics["train/loss"] for _, metrics in results(path)] for path in (alone, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


def test_a_dry_run_starts_no_ray(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysl.data.feeds.connected_crew", lambda labels: ThreadCrew())
    monkeypatch.setattr("raysl.api.runs.connect", None)
    plan = api.plan_pretrain([run_config(source, "data.feed=ray")], api.Job(runs=tmp_path))
    assert plan["where"].startswith("Ray: would start a private one here")
    assert plan["data"]["train_images"] == 144
    assert not list(tmp_path.iterdir())
