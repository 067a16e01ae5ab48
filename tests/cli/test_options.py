"""Options and names that cannot be taken, and signals outside training."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysl.api import default_name
from raysl.cli import options
from raysl.cli.main import main
from raysl.config import load
from raysl.train.config import RunConfig


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ls", "--jsn"], "did you mean '--json'?"),
        (["pretrain", "digits/simclr", "--dryrun"], "did you mean '--dry-run'?"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_nearest(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_uri_with_options_is_a_source_and_no_override() -> None:
    uri = "s3://bucket/photos?region=eu-west-1"
    given = options.words(argparse.Namespace(words=[uri, f"data.source={uri}"]))
    assert given == ([uri], [f"data.source={uri}"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pretrain", "digits/simclr", "--name", "../x", "--dry-run"], "expected a plain name"),
        (["pretrain", "digits/simclr", "--cluster", "nonsense", "--dry-run"], "no address of a Ray"),
        (["pretrain", "digits/simclr", "launch.workers=4096", "train.batch_size=8192"], "wants 4096 CPUs"),
        (["quickstart", "digits"], "key=value overrides only"),
        (
            ["pretrain", "digits/simclr", "optimizer.weight-decay=1"],
            "optimizer.weight-decay = 1: unknown key",
        ),
        (["pretrain", "digits/simclr", "backbone.name=resnt18"], "did you mean 'resnet18'?"),
        (["pretrain", "digits/simclr", "schedule.warmup=-3"], "a warm-up cannot be negative"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, *(["--dry-run"] if "--dry-run" not in words else [])]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_mappings_get_names_of_their_own() -> None:
    names = set()
    for lr in (0.1, 0.2):
        source = {"method": {"name": "simclr"}, "views": {"preset": "digits"}, "optimizer": {"lr": lr}}
        names.add(default_name([source], [], load(RunConfig, [source])))
    assert len(names) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_training_ends_with_75(number: signal.Signals) -> None:
    program = (
        "import sys, threading, os, signal, time\n"
        "from raysl.cli import main as cli\n"
        "import raysl.report.runs as runs\n"
        f"runs.list_runs = lambda folder: os.kill(os.getpid(), {int(number)}) or time.sleep(30)\n"
        "sys.exit(cli.main(['ls']))\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert told.returncode == 75
    assert number.name in told.stderr
