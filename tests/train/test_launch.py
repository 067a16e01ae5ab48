"""The same run on Ray Train's workers, with processes killed for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from raysl.cluster.connect import ClusterInfo
from raysl.config import yaml
from raysl.errors import InputError, TrainingStopped
from raysl.train.config import RunConfig
from raysl.train.context import StepNews
from raysl.train.rundir import RunDirectory
from raysl.train.session import TrainData
from tests.train.jobs import UNDISTURBED, Done
from tests.train.made import assert_same_bits, config, digits, results, weights

PATIENCE_S = 120.0


class Driver:
    """`raysl pretrain` in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        file = folder / "run.yaml"
        file.write_text(yaml.dump(UNDISTURBED.to_dict()), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "raysl",
            "pretrain",
            str(file),
            "--runs",
            str(folder),
            "--name",
            "run",
        ]
        self.run = RunDirectory(folder / "run")
        self.log = open(folder / "log", "a+", encoding="utf-8")  # noqa: SIM115 - the process writes to it
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no {what}; exit code {self.process.poll()}\n{self.text()}")
            time.sleep(0.02)

    def wait_for_epochs(self, count: int) -> None:
        self.wait_until(lambda: len(self.run.metrics()) >= count, f"{count} epochs")

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.descendants() if "RayTrainWorker" in _title(child)]

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def text(self) -> str:
        self.log.flush()
        return Path(self.log.name).read_text(encoding="utf-8")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.timeout(600)
def test_a_run_survives_killed_workers_a_killed_driver_and_a_stop(tmp_path: Path, done: Done) -> None:
    first = Driver(tmp_path)
    first.wait_for_epochs(1)
    time.sleep(0.1)
    worker = first.workers()[-1]
    worker.kill()
    assert len(first.run.metrics()) == 1, "the worker was to be killed in the middle of epoch 2"
    first.wait_for_epochs(2)
    assert worker.pid not in [process.pid for process in first.workers()]
    time.sleep(0.1)
    orphans = first.descendants()
    os.killpg(first.process.pid, signal.SIGKILL)
    first.ended()
    recorded = (first.run.path / "metrics.jsonl").read_bytes()
    assert recorded.count(b"\n") == 2, "the driver was to be killed in epoch 3"

    second = Driver(tmp_path)
    second.wait_for_epochs(3)
    time.sleep(0.1)
    second.process.send_signal(signal.SIGTERM)
    assert second.ended() == 75, second.text()
    assert "the same command continues" in second.text().splitlines()[-1]
    assert second.run.status()["state"] == "interrupted"
    stopped_at = second.run.path / "checkpoints"
    assert [entry.name for entry in stopped_at.iterdir() if "_step_" in entry.name]

    third = Driver(tmp_path)
    assert third.ended() == 0, third.text()
    assert (third.run.path / "metrics.jsonl").read_bytes().startswith(recorded)
    # Those whom nobody disturbs did without Ray: it is the same loop.
    assert results(third.run.path) == results(done.run("undisturbed"))
    assert_same_bits(weights(third.run.path), weights(done.run("undisturbed")))
    assert "Traceback" not in third.text()
    assert not (third.run.path / ".ray_train").exists()
    _, alive = psutil.wait_procs(orphans, timeout=60)
    assert not [_title(process) for process in alive]


def launched(
    run_config: RunConfig, path: Path, data: TrainData, stop: Callable[[], bool] = lambda: False
) -> list[StepNews]:
    from raysl.train.launch import launch

    run, told = RunDirectory(path), list[StepNews]()
    run.prepare(run_config)
    launch(run_config, run, data, stop=stop, on_step=told.append)
    return told


@pytest.mark.timeout(300)
def test_a_job_ends_with_what_the_loop_ended_with(tmp_path: Path, ray_cluster: ClusterInfo) -> None:
    """It is harmless for an epoch or two, and then diverges."""
    diverging = config("launch.workers=2", "optimizer.lr=1e33", "schedule.warmup=9", "schedule.horizon=10",
                       "schedule.warmup_from=zero", "train.epochs=9", method="simclr")  # fmt: skip
    with pytest.raises(TrainingStopped) as caught:
        launched(diverging, tmp_path, digits())
    run = RunDirectory(tmp_path)
    assert caught.value.cause in {"nan", "inf"}
    assert [row["epoch"] for row in run.metrics()] == list(range(1, caught.value.epoch + 1))
    assert run.claim() == 2, "a job that diverged must not be started again"


def test_what_the_cluster_cannot_hold_is_refused_at_once(tmp_path: Path, ray_cluster: ClusterInfo) -> None:
    with pytest.raises(
        InputError, match=r"launch.workers = 4: wants 4 CPUs, but the cluster has 2; use fewer"
    ):
        launched(config("launch.workers=4"), tmp_path / "run", digits())
    with pytest.raises(InputError, match=r"wants 2 GPUs, but the cluster has 0"):
        launched(
            config("launch.workers=2", "launch.gpus_per_worker=1", "train.device=auto"),
            tmp_path / "gpus",
            digits(),
        )
