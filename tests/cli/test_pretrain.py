"""What `raysl pretrain` prints, writes and ends with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysl.train.rundir import RunDirectory
from tests.cli.conftest import Commands
from tests.train.made import results


def test_it_trains_says_where_and_continues(raysl: Commands) -> None:
    first = raysl.pretrain("schedule.horizon=3", "train.epochs=2")
    assert first.code == 0
    lines = first.out.splitlines()
    assert lines[0].startswith("Ray: none (in this process), 1 CPU")
    assert lines[-2:] == [
        f"2 epochs done: {raysl.runs / 'run'}",
        f"next: raysl evaluate {raysl.runs / 'run'}",
    ]
    assert "epoch 2/2" in first.err
    assert "Traceback" not in first.err
    second = raysl.pretrain("schedule.horizon=3", "train.epochs=3")
    assert second.code == 0
    assert f"continuing {raysl.runs / 'run'} from epoch_0002" in second.out
    assert [epoch for epoch, _ in results(raysl.runs / "run")] == [1, 2, 3]
    environment = json.loads((raysl.runs / "run" / "environment.json").read_text())
    assert environment["versions"]["torch"]


def test_one_worker_starts_no_ray(raysl: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert raysl.pretrain("train.epochs=1").code == 0


def test_json_is_all_that_stdout_holds(raysl: Commands) -> None:
    ended = raysl.pretrain("train.epochs=1", "--json")
    assert ended.json["epochs"] == 1
    assert ended.json["run"] == str(raysl.runs / "run")
    assert "train/loss" in ended.json["metrics"]
    assert ended.err.startswith("Ray: none")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dry_run_tells_the_plan_and_writes_nothing(
    raysl: Commands, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(workers)))
    ended = raysl.pretrain("--dry-run", "--json", f"launch.workers={workers}", "schedule.warmup=50%")
    plan = ended.json
    assert (plan["epochs"], plan["batch_size"], plan["workers"]) == (3, 32, workers)
    assert plan["horizon_steps"] == 3 * plan["steps_per_epoch"]
    assert plan["data"]["labels"] is True
    assert plan["where"].startswith("Ray: none" if workers == 1 else "Ray: would start a private one here")
    assert not raysl.runs.exists()
    text = raysl.pretrain("--dry-run", f"launch.workers={workers}").out
    assert f"would write {raysl.runs / 'run'}" in text
    assert not raysl.runs.exists()


def test_the_same_words_make_the_same_name_and_others_another(raysl: Commands) -> None:
    def name(*words: str) -> str:
        return Path(raysl("pretrain", *words, "--dry-run", "--json").json["run"]).name

    assert name("digits/simclr") == "digits-simclr"
    changed = name("digits/simclr", "train.epochs=2")
    assert changed == name("digits/simclr", "train.epochs=2")
    assert changed.startswith("digits-simclr-")
    assert changed != name("digits/simclr", "train.epochs=3")


def test_words_after_options_are_words_too(raysl: Commands) -> None:
    ended = raysl(
        "pretrain", "--dry-run", "digits/simclr", "--json", "train.epochs=2", "--name", "x", "train.seed=3"
    )
    assert (ended.json["config"]["train"]["seed"], ended.json["epochs"]) == (3, 2)


def test_a_run_that_diverges_ends_with_3_and_one_line(raysl: Commands) -> None:
    ended = raysl.pretrain("optimizer.lr=1e30")
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith(("raysl: nan: ", "raysl: inf: "))
    assert raysl.pretrain("optimizer.lr=1e30").code == 3


def test_a_failure_that_is_nobodys_mistake_ends_with_1(
    raysl: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("the moon is in the wrong phase")

    monkeypatch.setattr("raysl.train.session.Session.step", fail)
    ended = raysl.pretrain()
    assert ended.code == 1
    assert ended.err == "raysl: RuntimeError: the moon is in the wrong phase (--debug shows the trace)\n"
    assert RunDirectory(raysl.runs / "run").status()["state"] == "failed"


def test_config_show_prints_what_it_reads(raysl: Commands) -> None:
    shown = raysl("config", "show", "digits/simclr", "train.seed=5")
    (raysl.folder / "shown.yaml").write_text(shown.out)
    again = raysl("config", "show", "shown.yaml", "--json")
    assert again.json["train"]["seed"] == 5
    assert again.json == raysl("config", "show", "digits/simclr", "train.seed=5", "--json").json
    fields = raysl("config", "show", "digits/simclr", "--fields").out
    assert "# Peak learning rate" in fields


def test_config_list_names_recipes_and_search_spaces(raysl: Commands) -> None:
    listed = raysl("config", "list", "--json").json
    assert "digits/simclr" in listed["recipes"]
    assert "matrix_ssl" in listed["search spaces"]


def start(raysl: Commands, *words: str) -> subprocess.Popen[str]:
    command = ["pretrain", str(raysl.recipe), "--name", "run", "--runs", str(raysl.runs), *words]
    return subprocess.Popen(
        ["taskset", "-c", "0", sys.executable, "-m", "raysl", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_signal_saves_says_how_to_go_on_and_ends_with_75(raysl: Commands) -> None:
    run = RunDirectory(raysl.runs / "run")
    process = start(raysl, "schedule.horizon=100", "train.epochs=100")
    deadline = time.monotonic() + 60
    while len(run.metrics()) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert "SIGTERM: saving at the next step (again to stop at once)" in told
    assert told.splitlines()[-1].startswith("raysl: saved at epoch_")
    assert told.splitlines()[-1].endswith("the same command continues")
    assert run.status()["state"] == "interrupted"
    done = len(run.metrics())
    assert 2 <= done < 100
    assert raysl.pretrain("schedule.horizon=100", f"train.epochs={done + 1}").code == 0
    assert [epoch for epoch, _ in results(run.path)] == list(range(1, done + 2))
