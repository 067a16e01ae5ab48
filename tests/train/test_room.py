"""What a job on many workers asks of the cluster, and what they decide together; no cluster is started."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from raysl.errors import Fenced, InputError, Interrupted, RayslError
from raysl.train import launch
from raysl.train.context import Context
from raysl.train.control import Control
from raysl.train.loop import epochs
from raysl.train.pretrain import prepare, pretrain
from raysl.train.rundir import RunDirectory
from tests.train.made import StopAfter, config, digits


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    there = {"CPU": 2.0, "GPU": 0.0}
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    return there


@pytest.mark.parametrize(
    ("there", "overrides", "each"),
    [
        (2, [], 0.0),  # made.config() asks for CPUs
        (2, ["launch.gpus_per_worker=1"], 0.0),
        (2, ["train.device=auto"], 1.0),
        (0, ["train.device=auto"], 0.0),
        (2, ["train.device=auto", "launch.gpus_per_worker=0.5"], 0.5),
        (4, ["train.device=cuda", "launch.gpus_per_worker=2"], 2.0),
        (1, ["train.device=cuda", "launch.gpus_per_worker=0.5"], 0.5),
    ],
)
def test_gpus_of_a_worker(gpus: dict[str, float], there: float, overrides: list[str], each: float) -> None:
    gpus["GPU"] = there
    assert launch.require_room(config("launch.workers=2", *overrides)) == each


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["launch.backend=nccl"], "launch.backend = nccl: needs GPUs"),
        (
            ["launch.backend=nccl", "launch.gpus_per_worker=0.5", "train.device=auto"],
            "nccl: needs a whole GPU for each worker, not 0.5",
        ),
        (["launch.gpus_per_worker=1.5", "train.device=auto"], "whole GPUs or a share of one"),
        (["train.device=cuda"], "wants 2 GPUs, but the cluster has 0"),
        (["train.device=cuda", "launch.gpus_per_worker=0"], "train.device = cuda needs 1 or more"),
        (["launch.cpus_per_worker=2"], "wants 4 CPUs, but the cluster has 2"),
    ],
)
def test_a_job_without_room_leaves_no_run_directory(
    tmp_path: Path, gpus: dict[str, float], overrides: list[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        pretrain(prepare(config("launch.workers=2", *overrides)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_failure_names_no_process_of_the_driver() -> None:
    assert launch._root_cause(RuntimeError("Traceback\nValueError: too late\n")) == "ValueError: too late"


@pytest.mark.parametrize("ending", [Fenced("attempt 1 is over"), InputError("other images")])
def test_workers_started_again_after_a_final_outcome_leave_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: RayslError
) -> None:
    posted: list[Any] = []
    board = SimpleNamespace(
        outcome=SimpleNamespace(remote=lambda: ending),
        end=SimpleNamespace(remote=posted.append),
        exchange=SimpleNamespace(remote=lambda news: False),
    )
    train = SimpleNamespace(
        get_context=lambda: SimpleNamespace(get_world_rank=lambda: 0),
        torch=SimpleNamespace(get_device=lambda: "cpu"),
    )
    monkeypatch.setattr(launch, "ray", SimpleNamespace(get=lambda value: value, train=train))
    run = RunDirectory(tmp_path)
    run.prepare(config())
    fence = run.claim()
    launch._work({"job": launch._Job(config(), run, digits(), board)})  # type: ignore[arg-type]
    assert posted == []
    with run.writing(fence):
        assert run.metrics() == []


def test_only_the_first_worker_s_clock_asks_for_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, ...]] = []

    def voted(control: Control, *mine: bool) -> tuple[bool, ...]:
        asked.append(mine)
        return mine

    monkeypatch.setattr(Control, "any", voted)
    for place, expected in ((0, True), (1, False)):
        asked.clear()
        monkeypatch.setattr("raysl.train.loop.rank", lambda place=place: place)
        context = Context(RunDirectory(tmp_path / str(place)), digits(), stop=StopAfter(2))
        with pytest.raises(Interrupted):
            next(epochs(config("checkpoint.every=0.0000001 min"), context))
        assert asked == [(False, expected), (True, expected)]
