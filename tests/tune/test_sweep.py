"""Whole sweeps on a real Ray: every way a trial can end, a driver killed at random, other directories."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from raysl.cluster.connect import ClusterInfo
from raysl.config import RECIPES, load
from raysl.errors import InputError, RayslError
from raysl.train.config import RunConfig
from raysl.tune.records.entry import Entry
from raysl.tune.records.record import read_record
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.sweep import SweepResult, sweep
from raysl.tune.trials.messages import Launch
from raysl.tune.trials.standby import Standby
from tests.tune import fake_loop
from tests.tune.conftest import space

REPOSITORY = Path(__file__).resolve().parents[2]


def record(directory: Path) -> list[Entry]:
    return list(read_record(directory).trials)


def rows(directory: Path, number: int) -> list[dict[str, Any]]:
    lines = (directory / "trials" / str(number) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def swept(
    ray_cluster: ClusterInfo, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, SweepResult, list[str]]:
    """A sweep of eight trials, two at a time, four of which meet with misfortune."""
    directory, said = tmp_path_factory.mktemp("sweeps") / "small", []  # type: tuple[Path, list[str]]
    result = sweep(
        space(concurrent=2, attempts=2, warm_spare=False), directory, say=said.append, loop=fake_loop.epochs
    )
    return directory, result, said


def test_every_trial_ends_as_it_should(swept: tuple[Path, SweepResult, list[str]]) -> None:
    directory, result, said = swept
    trials = record(directory)
    ends = {entry.number: entry.cause for entry in trials}
    assert ends == {
        0: "complete", 1: "complete", 6: "complete", 7: "complete",
        fake_loop.NAN: "nan", fake_loop.ERROR: "error",
        fake_loop.KILLED_ONCE: "complete", fake_loop.KILLED_ALWAYS: "killed",
    }  # fmt: skip
    assert result.states == {"complete": 5, "failed": 3}
    assert result.causes == {"nan": 1, "error": 1, "killed": 1}
    assert trials[fake_loop.ERROR].reason == "ValueError: no such luck"
    assert "no such luck" in (directory / "trials" / str(fake_loop.ERROR) / "error.txt").read_text()
    assert "fake_loop" in (directory / "trials" / str(fake_loop.ERROR) / "error.txt").read_text()
    assert any("trial 3: failed (error) after 1 epochs" in line for line in said)


def test_epochs_are_contiguous_and_ledger_and_directories_agree(
    swept: tuple[Path, SweepResult, list[str]],
) -> None:
    directory, _, _ = swept
    for entry in record(directory):
        assert [report.epoch for report in entry.reports] == list(range(1, entry.epoch + 1))
        assert [row["epoch"] for row in rows(directory, entry.number)] == list(range(1, entry.epoch + 1))
    assert sorted(path.name for path in (directory / "trials").iterdir()) == [str(n) for n in range(8)]
    assert not (directory / ".tune").exists()


def test_a_killed_trial_goes_on_under_its_number_and_attempts_run_out(
    swept: tuple[Path, SweepResult, list[str]],
) -> None:
    trials = record(swept[0])
    once, always = trials[fake_loop.KILLED_ONCE], trials[fake_loop.KILLED_ALWAYS]
    assert [report.fence for report in once.reports] == [1, 1, 2, 2]
    assert len(once.deaths) == 1
    assert [death.cause for death in always.deaths] == ["killed", "killed"]
    assert always.fence == 2
    assert "died 2 times" in always.reason


def test_processes_are_reused(swept: tuple[Path, SweepResult, list[str]]) -> None:
    directory, _, _ = swept
    pids = {
        row["pid"] for entry in record(directory) if entry.reports for row in rows(directory, entry.number)
    }
    # Two to begin with, and one more for each of the three that were killed.
    assert len(pids) <= 5


def test_the_winner_can_be_pretrained_and_knows_where_it_comes_from(
    swept: tuple[Path, SweepResult, list[str]],
) -> None:
    directory, result, _ = swept
    complete = [entry for entry in record(directory) if entry.state == "complete"]
    best = min(complete, key=lambda entry: float(str(entry.params["optimizer.lr"])))
    assert (result.best_trial, result.best_params) == (best.number, best.params)
    config = load(RunConfig, [result.best_config], [], RECIPES)
    assert config.optimizer.lr == best.params["optimizer.lr"]
    assert config == load(RunConfig, [result.best_run / "config.yaml"], [], RECIPES)
    text = result.best_config.read_text()
    assert text.startswith("# ")
    assert f"trials/{best.number}" in text
    assert str(result.best_config) in result.describe()


def test_the_same_call_again_changes_nothing(swept: tuple[Path, SweepResult, list[str]]) -> None:
    directory, result, _ = swept
    before = (directory / "study.log").read_bytes()
    again = sweep(space(concurrent=1, attempts=2), directory, say=lambda line: None, loop=fake_loop.epochs)
    assert again == result
    assert (directory / "study.log").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"noise": {"seeds": 2}}, "noise.seeds: 1 -> 2"),
        ({"sampler": {"name": "tpe", "seed": 4, "n_startup_trials": 4}}, "sampler.seed: 3 -> 4"),
        ({"overrides": {"train.batch_size": 128}}, "train.batch_size: 256 -> 128"),
    ],
)
def test_another_space_is_refused_with_the_difference(
    swept: tuple[Path, SweepResult, list[str]], changes: dict[str, Any], said: str
) -> None:
    directory, _, _ = swept
    before = (directory / "study.log").read_bytes()
    with pytest.raises(InputError, match="another space") as caught:
        sweep(space(concurrent=2, attempts=2, **changes), directory)
    assert said in str(caught.value)
    assert (directory / "study.log").read_bytes() == before


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match="not a sweep's directory"):
        sweep(space(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_metric_that_nobody_reports_ends_the_sweep_at_once(
    ray_cluster: ClusterInfo, tmp_path: Path
) -> None:
    config = space(objective={"metric": "train/accuracy"}, concurrent=1, warm_spare=False)
    with pytest.raises(InputError, match=r"train/accuracy.*they report train/loss"):
        sweep(config, tmp_path / "s", say=lambda line: None, loop=fake_loop.metric_missing)


def test_a_standby_takes_a_trial_up(ray_cluster: ClusterInfo, tmp_path: Path) -> None:
    built = Space(space())

    def launch(number: int, fence: int) -> Launch:
        folder = str(tmp_path / str(number))
        return Launch(
            number, fence, 0, folder, built.run_config({}), 0, threads=1, stop_file=str(tmp_path / "stop")
        )

    standby = Standby([ray.put((None, fake_loop.epochs))])
    assert standby.take(launch(0, 1)).standby is None
    standby.warm()
    deadline = time.monotonic() + 60
    while (taken := standby.take(launch(0, 1))).standby is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert standby.take(launch(1, 1)).standby is None
    messages = [ray.get(taken.standby.next.remote()) for _ in range(4)]
    assert [message.epoch for message in messages] == [1, 2, 3, 4]
    standby.give_back(taken, lost=False)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(taken.standby.next.remote())
    standby.end()


def test_a_standby_that_was_killed_meanwhile_is_given_to_nobody(
    ray_cluster: ClusterInfo, tmp_path: Path
) -> None:
    launch = Launch(
        0, 1, 0, str(tmp_path / "0"), Space(space()).run_config({}), 0, threads=1,
        stop_file=str(tmp_path / "stop"),
    )  # fmt: skip
    standby = Standby([ray.put((None, fake_loop.epochs))])
    standby.warm()
    ray.get(standby._ready, timeout=60)
    ray.kill(standby._idle)
    # A kill is only on its way when the call returns; this one is answered once it is done.
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(standby._idle.__ray_call__.remote(lambda process: time.sleep(60)), timeout=60)
    assert standby.take(launch).standby is None
    standby.warm()
    ray.get(standby._ready, timeout=60)
    assert standby.take(launch).standby is not None
    standby.end()


DRIVER = """
import sys
from pathlib import Path
from raysl.cluster.connect import connect
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.sweep import sweep
config = SpaceConfig.model_validate_json(sys.argv[2])
with connect("local", cpus=2, gpus=0, object_store_memory=100 * 1024**2, dashboard=False):
    result = sweep(config, Path(sys.argv[1]))
"""


def start(directory: Path, config: SpaceConfig) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(directory), config.model_dump_json()]
    log = open(directory.with_suffix(".log"), "a", encoding="utf-8")  # noqa: SIM115
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, text=True)


def progress(directory: Path) -> int:
    """Return how many reports are on record, without touching the record."""
    path = directory / "study.log"
    return path.read_bytes().count(b'"report:') if path.exists() else 0


def wait_for_progress(process: subprocess.Popen[str], directory: Path, reports: int) -> None:
    """Wait until a driver has put so many more reports on record."""
    began, wanted = time.monotonic(), progress(directory) + reports
    while progress(directory) < wanted:
        assert process.poll() is None, directory.with_suffix(".log").read_text()
        assert time.monotonic() - began < 90
        time.sleep(0.01)


def check_record(directory: Path, params: dict[int, Any], recorded: dict[int, list[Any]]) -> list[Entry]:
    """Check that what was on record before still is, word for word; then remember what is on record now."""
    trials = record(directory)
    assert [entry.number for entry in trials] == list(range(len(trials)))
    for entry in trials:
        assert params.setdefault(entry.number, entry.params) == entry.params
        assert [report.epoch for report in entry.reports] == list(range(1, entry.epoch + 1))
        if (directory / "trials" / str(entry.number) / "metrics.jsonl").exists():
            now, before = rows(directory, entry.number), recorded.get(entry.number, [])
            assert now[: len(before)] == before
            assert [row["epoch"] for row in now] == list(range(1, len(now) + 1))
            assert len(now) - entry.epoch in {0, 1}
            recorded[entry.number] = now
    return trials


@pytest.mark.timeout(300)
def test_a_driver_killed_and_interrupted_loses_nothing(tmp_path: Path) -> None:
    """The real loop in three lives: ended by SIGKILL, by SIGINT, and by being done."""
    config = space(
        trials=5,
        epochs=6,
        concurrent=2,
        overrides={"train.batch_size": 64, "diagnostics.images": False},
        stopping={"rule": "successive_halving", "min_epochs": 2},
        warm_spare=False,
    )
    directory, log = tmp_path / "small", tmp_path / "small.log"
    params: dict[int, Any] = {}
    recorded: dict[int, list[Any]] = {}

    process = start(directory, config)
    wait_for_progress(process, directory, 1)
    with pytest.raises(InputError, match=f"run by process {process.pid}"):
        sweep(config, directory)
    wait_for_progress(process, directory, random.randint(1, 4))
    children = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    process.send_signal(signal.SIGKILL)
    process.wait()
    check_record(directory, params, recorded)

    process = start(directory, config)
    wait_for_progress(process, directory, 2)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert "Interrupted" in log.read_text()
    assert "the same command continues" in log.read_text()
    interrupted = [entry for entry in check_record(directory, params, recorded) if entry.state == "running"]
    statuses = [directory / "trials" / str(entry.number) / "status.json" for entry in interrupted]
    assert {json.loads(status.read_text())["state"] for status in statuses} == {"interrupted"}

    process = start(directory, config)
    assert process.wait(timeout=120) == 0, log.read_text()
    trials = check_record(directory, params, recorded)
    assert len(trials) == config.trials
    assert all(entry.state == "pruned" or (entry.state, entry.epoch) == ("complete", 6) for entry in trials)
    assert sorted(path.name for path in (directory / "trials").iterdir()) == [str(n) for n in range(5)]
    assert [pid for pid in children if "Trainable" in " ".join(cmdline(pid))] == []


def cmdline(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_limit_holds_while_no_trial_has_room_and_its_trials_go_on_later(
    ray_cluster: ClusterInfo, tmp_path: Path
) -> None:
    class Tenant:
        def is_in(self) -> bool:
            return True

    remote: Any = ray.remote(num_cpus=2)(Tenant)
    tenant = remote.remote()
    ray.get(tenant.is_in.remote())
    config = space(concurrent=2, trials=2, warm_spare=False, budget={"hours": 3 / 3600})
    begun = time.monotonic()
    try:
        with pytest.raises(RayslError, match=r"no trial completed .*budget.hours = .* is used up"):
            sweep(config, tmp_path, say=lambda line: None, loop=fake_loop.epochs)
    finally:
        ray.kill(tenant)
    assert time.monotonic() - begun < 30.0
    assert [(entry.state, entry.epoch) for entry in record(tmp_path)] == [("running", 0)] * 2
    more = space(concurrent=2, trials=2, warm_spare=False)
    again = sweep(more, tmp_path, say=lambda line: None, loop=fake_loop.epochs)
    assert again.states == {"complete": 2}
