"""Trials of two workers on a real Ray, with everything killed that can be; nothing of them may be left."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group
from ray.util.state import list_actors, list_placement_groups

from raysl.cluster.environment import ray_environment, read_token_again
from raysl.cluster.private import ending_processes
from raysl.cluster.scratch import scratch_directory
from raysl.tune.records.entry import Entry
from raysl.tune.records.record import read_record
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.sweep import SweepResult, sweep
from raysl.tune.trials.gang import Gang
from raysl.tune.trials.gangs import made_by_actors, remove_leftovers
from tests.tune import fake_gang
from tests.tune.conftest import space

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
RAYS_OWN = "_AutoscalingCoordinatorActor"  # one for a whole Ray, for as long as it runs
LRS = [0.001, 0.001, 0.001, 0.001, 0.05]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray with its dashboard, 4 CPUs and a GPU, as far as Ray knows; its address."""
    with ray_environment(private=True), scratch_directory() as directory, ending_processes(directory):
        # An earlier test of this process may have been connected to another Ray.
        read_token_again()
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=1,
            include_dashboard=True,
            dashboard_port=0,
            object_store_memory=100 * 1024**2,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(directory),
        )
        yield str(ray.get_runtime_context().gcs_address)


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.1)


def groups(address: str) -> list[Any]:
    """Return the placement groups that still hold something or want to, by Ray's state API."""
    return [one for one in list_placement_groups(address, limit=1000) if one.state != "REMOVED"]


def actors(address: str) -> list[Any]:
    """Return all living actors but Ray's own."""
    found = list_actors(address, limit=1000, filters=[("state", "!=", "DEAD")])
    return [actor for actor in found if actor.class_name.rpartition(".")[2] != RAYS_OWN]


def two_workers(overrides: dict[str, Any], **changes: Any) -> SpaceConfig:
    overrides = {"train.batch_size": 128, "launch.workers": 2, **overrides}
    return space(**{"noise": {"seeds": 1}, "attempts": 2, "overrides": overrides, **changes})


def rows(directory: Path, number: int) -> list[dict[str, Any]]:
    lines = (directory / "trials" / str(number) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Swept:
    directory: Path
    result: SweepResult
    trials: Sequence[Entry]
    said: list[str]
    left: list[Any]


@pytest.fixture(scope="module")
def swept(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Five trials of two workers with a quarter of a GPU each, two at a time, all of them out of luck."""
    directory, said = tmp_path_factory.mktemp("sweeps") / "gangs", list[str]()
    config = two_workers(
        {"train.device": "auto", "launch.gpus_per_worker": 0.25},
        trials=len(LRS),
        epochs=3,
        priors=[{"optimizer.lr": lr} for lr in LRS],
        stopping={"rule": "median", "min_epochs": 2, "min_trials": 1, "audit": {"share": 0.0, "least": 0}},
    )
    result = sweep(config, directory, say=said.append, loop=fake_gang.epochs)
    left = groups(cluster)
    return Swept(directory, result, read_record(directory).trials, said, left)


@pytest.mark.timeout(600)
def test_every_trial_of_several_workers_ends_as_it_should(swept: Swept) -> None:
    assert "2 at a time, 2 workers of 1 CPU and 0.25 GPU each" in swept.said
    assert {entry.number: entry.cause for entry in swept.trials} == {
        fake_gang.WORKER_KILLED: "complete",
        fake_gang.ACTOR_KILLED: "complete",
        fake_gang.ERROR: "error",
        fake_gang.NAN: "nan",
        fake_gang.WORSE: "pruned",
    }
    failed = swept.directory / "trials" / str(fake_gang.ERROR)
    assert swept.trials[fake_gang.ERROR].reason == "ValueError: no such luck"
    assert (failed / "error.txt").read_text().startswith("worker 1\n")
    assert "_meet_fate" in (failed / "error.txt").read_text()
    assert swept.result.best_params["optimizer.lr"] == 0.001


def test_no_worker_is_ahead_of_the_ledger(swept: Swept) -> None:
    """A pruned trial has trained no epoch beyond the one it was pruned at."""
    for entry in swept.trials:
        recorded = [row["epoch"] for row in rows(swept.directory, entry.number)]
        assert recorded == [report.epoch for report in entry.reports] == list(range(1, entry.epoch + 1))
    assert 2 <= swept.trials[fake_gang.WORSE].epoch < 3


@pytest.mark.parametrize("number", [fake_gang.WORKER_KILLED, fake_gang.ACTOR_KILLED])
def test_a_killed_worker_and_a_killed_process_cost_one_attempt_each(swept: Swept, number: int) -> None:
    entry = swept.trials[number]
    assert [(death.fence, death.cause) for death in entry.deaths] == [(1, "killed")]
    assert [report.fence for report in entry.reports] == [1, 2, 2]
    before, *after = [set(row["pids"]) for row in rows(swept.directory, number)]
    assert not before & set.union(*after)


def test_nothing_of_a_trial_is_left_when_the_next_attempt_runs(swept: Swept) -> None:
    for number in range(len(LRS)):
        # One for each of the two trials that run.
        assert max(row["metrics"]["groups"] for row in rows(swept.directory, number)) <= 2


def test_nothing_is_left_of_a_sweep(swept: Swept, cluster: str) -> None:
    assert swept.left == []
    pids = {pid for number in range(len(LRS)) for row in rows(swept.directory, number) for pid in row["pids"]}
    wait_until(lambda: not actors(cluster), "end of its actors")
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "end of the workers")
    assert not (swept.directory / ".tune").exists()


@pytest.mark.timeout(60)
def test_what_is_left_of_a_gang_is_what_a_dead_actor_has_made_for_one(cluster: str) -> None:
    """Ray keeps it until the driver ends, and knows no more of it than that its maker is dead."""
    gang = Gang(2, 0.01, 0.0)

    class Maker:
        def make(self, bundles: list[dict[str, float]]) -> str:
            self.made = placement_group(bundles)
            return str(self.made.id.hex())

    bundles = [gang.bundle] * gang.workers
    own = placement_group(bundles)
    makers: list[Any] = [ray.remote(num_cpus=0)(Maker).remote() for _ in range(2)]
    dead, living = ray.get([maker.make.remote(bundles) for maker in makers])
    other = ray.get(makers[0].make.remote(bundles[:1]))
    assert made_by_actors(gang) == {bytes.fromhex(dead): False, bytes.fromhex(living): False}
    assert remove_leftovers(gang) == 0
    ray.kill(makers[0])
    wait_until(lambda: remove_leftovers(gang), "group of a dead maker")
    wait_until(lambda: list(made_by_actors(gang)) == [bytes.fromhex(living)], "removal")
    left = {group.placement_group_id for group in groups(cluster)}
    assert left == {living, other, own.id.hex()}
    ray.util.remove_placement_group(own)
    ray.kill(makers[1])
    wait_until(lambda: remove_leftovers(gang), "group of a dead maker")
    wait_until(lambda: remove_leftovers(Gang(1, 0.01, 0.0)), "the other")


DRIVER = """
import sys
from pathlib import Path
from raysl.cluster.connect import connect
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.sweep import sweep
with connect(sys.argv[3]):
    sweep(SpaceConfig.model_validate_json(sys.argv[2]), Path(sys.argv[1]))
"""


def wait_until_nothing_is_left(address: str, there: Sequence[Any]) -> None:
    """Wait until no placement group and no actor is left, nor any process of those that were there."""
    wait_until(lambda: not groups(address), "end of its placement groups")
    wait_until(lambda: not actors(address), "end of its actors")
    pids = [actor.pid for actor in there]
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "end of its processes")


def start(directory: Path, config: SpaceConfig, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(directory), config.model_dump_json(), address]
    with open(directory.with_suffix(".log"), "a", encoding="utf-8") as log:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, text=True)


def wait_for_reports(process: subprocess.Popen[str], directory: Path, count: int) -> None:
    def there() -> bool:
        assert process.poll() is None, directory.with_suffix(".log").read_text()
        study = directory / "study.log"
        return study.exists() and study.read_bytes().count(b'"report:') >= count

    wait_until(there, f"{count} reports")


@pytest.mark.timeout(600)
def test_a_driver_killed_and_interrupted_leaves_nothing_and_loses_nothing(
    cluster: str, tmp_path: Path
) -> None:
    """Real training on two workers in three lives: ended by SIGKILL, by SIGINT, and by being done."""
    directory, epochs = tmp_path / "gang", 12
    overrides = {"train.device": "cpu", "diagnostics.images": False}
    config = two_workers(overrides, trials=1, epochs=epochs, stopping={"rule": "none"})
    first = start(directory, config, cluster)
    wait_for_reports(first, directory, 2)
    there = actors(cluster)
    kinds = Counter(actor.class_name.rpartition(".")[2] for actor in there)
    # That of the trial has the name that Ray Tune gives it.
    assert kinds["RayTrainWorker"] == 2
    assert kinds["TrainController"] == kinds["ResourceTrainable"] == kinds["Board"] == 1
    first.kill()
    first.wait()
    wait_until_nothing_is_left(cluster, there)
    killed = rows(directory, 0)

    second = start(directory, config, cluster)
    wait_for_reports(second, directory, len(killed) + 1)
    there = actors(cluster)
    second.send_signal(signal.SIGINT)
    second.wait(timeout=PATIENCE_S)
    assert "the same command continues" in directory.with_suffix(".log").read_text()
    assert json.loads((directory / "trials" / "0" / "status.json").read_text())["state"] == "interrupted"
    wait_until_nothing_is_left(cluster, there)
    interrupted = rows(directory, 0)
    assert len(interrupted) < epochs, "the driver was to be interrupted in the middle"

    result = sweep(config, directory, say=lambda line: None)
    assert result.states == {"complete": 1}
    entry, done = read_record(directory).trials[0], rows(directory, 0)
    assert (entry.fence, len(entry.deaths)) == (3, 0)
    assert [report.epoch for report in entry.reports] == [row["epoch"] for row in done]
    assert [row["epoch"] for row in done] == list(range(1, epochs + 1))
    # The state of the last epoch before the kill may not have been saved any more.
    assert interrupted[: len(killed) - 1] == killed[:-1]
    assert done[: len(interrupted)] == interrupted
    assert groups(cluster) == []
