"""Whatever is wrong with what a user gives: one line that says what to do, exit code 2, and nothing lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Commands, Ended


def assert_told(ended: Ended, *parts: str) -> None:
    assert ended.code == 2, ended
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("raysl: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["data.source=nowhere"], ["data.source: nowhere does not exist", "give"]),
        (["data.source=empty"], ["empty holds no Parquet files and no images"]),
        (
            ["data.source=images", "data.channels=1", "diagnostics.knn=true"],
            ["there are no labels", "remove the"],
        ),
        (["train.batch_size=5000"], ["train.batch_size = 5000: larger than the", "use at most"]),
        (
            ["train.batch_size=31", "launch.workers=2"],
            ["does not divide among launch.workers = 2", "30 or 32"],
        ),
        (["method.name=simlcr"], ["no method 'simlcr'; did you mean 'simclr'?"]),
        (["method.temprature=1"], ["method.temprature = 1: unknown key; did you mean 'temperature'?"]),
        (["optimizer.lr=fast"], ["optimizer.lr = 'fast': expected a valid number"]),
        (["backbone.name=resnet19"], ["no such backbone; did you mean 'resnet18'?"]),
        (["schedule.name=step", "schedule.milestones=[30]"], ["so it would never act"]),
        (["train.device=cuda"], ["train.device = cuda: this process sees no GPU; use auto or cpu"]),
        (["--cluster", "nonsense", "launch.workers=2"], ["expected auto, local or HOST:PORT"]),
        (["--cluster", "127.0.0.1:1", "launch.workers=2"], ["127.0.0.1:1"]),
    ],
)
def test_pretrain_refuses_it(
    raysl: Commands, images: Path, words: list[str], parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (raysl.folder / "empty").mkdir()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_told(raysl.pretrain(*words), *parts)
    assert not list(raysl.runs.rglob("metrics.jsonl"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pretrain"], ["no recipe given; name one (raysl config list)"]),
        (["pretrain", "digits/simcrl"], ["no such recipe or file; did you mean 'digits/simclr'?"]),
        (["pretrain", "absent.yaml"], ["absent.yaml: no such recipe file"]),
        (["config", "show", "digits/simcrl"], ["did you mean 'digits/simclr'?"]),
        (["sweep", "matrix_sll"], ["no such search space", "did you mean 'matrix_ssl'?"]),
        (["sweep"], ["raysl sweep takes one search space"]),
        (["evaluate", "runs/absent"], ["absent"]),
        (["evaluate"], []),
        (["show", "absent"], ["absent"]),
        (["compare", "absent"], ["absent"]),
        (["pretrain", "digits/simclr", "--nmae", "x"], ["cannot take --nmae; did you mean '--name'?"]),
    ],
)
def test_commands_refuse_it(raysl: Commands, words: list[str], parts: list[str]) -> None:
    ended = raysl(*words)
    assert ended.code == 2
    for part in parts:
        assert part in ended.err
    assert "Traceback" not in ended.err
    assert not list(raysl.runs.rglob("*"))


def test_an_unreadable_image_is_named(raysl: Commands, images: Path) -> None:
    (images / "007.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    assert_told(raysl.pretrain("data.source=images", "data.channels=1"), "007.png")


def test_a_run_of_another_config_is_refused_with_the_difference_and_kept(raysl: Commands) -> None:
    assert raysl.pretrain("train.epochs=1").code == 0
    before = raysl.contents()
    assert_told(
        raysl.pretrain("train.epochs=1", "optimizer.lr=0.5"),
        "holds a run of another config (optimizer.lr: 0.1 -> 0.5)",
        "choose another --name",
    )
    assert raysl.contents() == before


def test_a_folder_of_other_things_is_refused_and_kept(raysl: Commands) -> None:
    (raysl.runs / "run").mkdir(parents=True)
    (raysl.runs / "run" / "thesis.tex").write_text("precious")
    assert_told(raysl.pretrain(), "not empty and not a run directory; choose another --name")
    assert raysl.contents() == {"run/thesis.tex": b"precious"}


def test_a_file_in_the_place_of_a_run_is_refused_and_kept(raysl: Commands) -> None:
    raysl.runs.mkdir()
    (raysl.runs / "run").write_text("mine")
    assert_told(raysl.pretrain(), "cannot be a run directory")
    assert (raysl.runs / "run").read_text() == "mine"


HOLD = """
import sys
from pathlib import Path
from raysl.train.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_in_one_run_directory(raysl: Commands) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(raysl.runs / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert_told(
        raysl.pretrain(), f"in use by process {holder.pid}", "wait for it, stop it, or choose another --name"
    )
    holder.communicate("\n")
    assert raysl.pretrain("train.epochs=1").code == 0


def test_debug_shows_the_trace_and_keeps_the_exit_code(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "raysl", "config", "show", "absent.yaml", "--debug"],
        capture_output=True,
        text=True,
    )
    assert "Traceback (most recent call last)" in told.stderr
    assert "InputError: absent.yaml: no such recipe file" in told.stderr
    assert told.returncode == 2
