"""`raysl sweep VERB`, and a sweep on a real Ray that is stopped, extended, replayed and exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raysl.cli.main import main
from raysl.cluster.connect import ClusterInfo
from raysl.config import yaml
from raysl.errors import InputError
from raysl.tune.extend import extended
from tests.tune.conftest import space
from tests.tune.on_disk import swept_directory

REPOSITORY = Path(__file__).resolve().parents[2]
# The real commands, but for a training loop that takes no time, in which trials 2 and 3 fail.
PROGRAM = """
import functools, sys
import raysl.tune.sweep as sweeps
from tests.tune import fake_loop
sweeps.sweep = functools.partial(sweeps.sweep, loop=fake_loop.epochs)
from raysl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *words]


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.dump(space(**changes).to_dict()))
    return path


def sweep_directory(folder: Path, **changes: Any) -> Path:
    """Write what a sweep's directory begins with."""
    root = folder / "small"
    root.mkdir()
    facts = {"study": "small-1", "space": space(**changes).to_dict(), "base": {"method": {"name": "simclr"}}}
    (root / "space.yaml").write_text(yaml.dump(facts))
    return root


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["statu", "runs/x"], "did you mean 'status'?"),
        (["matrix_sll"], "did you mean 'matrix_ssl'?"),
        (["--json", "status", "runs/x"], "expected right after sweep"),
        (["check"], "takes one search space"),
        (["extend", "runs/x"], "nothing to change"),
        (["status", "runs/x"], "runs/x: no such directory; expected the directory of a sweep (raysl ls"),
        (["status", "."], "has no space.yaml; expected the directory of a sweep"),
        (["stop", "runs/x"], "expected the directory of a sweep"),
        (["export", "runs/x", "-o", "x.txt"], "ends in .parquet"),
        (["simulate", "w_mse", "--curves", "x.csv"], "cannot be read"),
        (["repeat-best", "runs/x", "--seeds", "0"], "expected 1 or more"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    if words[0] == "extend":
        (tmp_path / "runs").mkdir()
        sweep_directory(tmp_path / "runs").rename(tmp_path / "runs" / "x")
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_help_names_every_verb(capsys: Any) -> None:
    from raysl.cli.sweep import VERBS

    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    text = capsys.readouterr().out
    assert all(f"raysl sweep {verb} " in text for verb in VERBS)
    for verb in VERBS:
        with pytest.raises(SystemExit) as ended:
            main(["sweep", verb, "--help"])
        assert ended.value.code == 0
        assert f"raysl sweep {verb}" in capsys.readouterr().out


def test_only_what_changes_no_trial_may_be_extended(tmp_path: Path) -> None:
    root = sweep_directory(tmp_path, deterministic=True, concurrent=2)
    found = extended(root, ["trials=12", "budget.hours=3", "noise.best_seeds=5"])
    assert found.changes == ("budget.hours: None -> 3.0", "noise.best_seeds: None -> 5", "trials: 8 -> 12")
    assert (found.space.trials, found.space.budget.hours, found.space.noise.best_seeds) == (12, 3.0, 5)
    wrong = ["sampler.seed=1", "noise.seeds=4", "optimizer.lr=1", "concurrent=4", "trial=3"]
    with pytest.raises(InputError) as caught:
        extended(root, wrong)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(wrong)
    assert all(line.startswith(text.partition("=")[0]) for line, text in zip(lines, wrong, strict=True))
    with pytest.raises(InputError, match="trials = 0"):
        extended(root, ["trials=0"])


def test_a_dry_run_of_extend_and_a_stop_of_what_does_not_run(tmp_path: Path, capsys: Any) -> None:
    root = sweep_directory(tmp_path)
    before = (root / "space.yaml").read_bytes()
    assert main(["sweep", "extend", str(root), "trials=9", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == ["trials: 8 -> 9"]
    assert main(["sweep", "repeat-best", str(root), "--seeds", "4", "--dry-run"]) == 0
    assert "noise.best_seeds: None -> 4" in capsys.readouterr().out
    assert main(["sweep", "stop", str(root)]) == 0
    assert "not running" in capsys.readouterr().out
    assert [path.name for path in root.iterdir()] == ["space.yaml"]
    assert (root / "space.yaml").read_bytes() == before


def test_simulate_prints_a_line_for_each_seed(capsys: Any) -> None:
    spaces, curves = REPOSITORY / "benchmarks/spaces", REPOSITORY / "benchmarks/curves"
    words = [str(spaces / "digits_w_mse.yaml"), "--curves", str(curves / "digits_w_mse.parquet")]
    changes = ["trials=6", "stopping.rule=successive_halving", "--seeds", "2", "--slots", "2"]
    assert main(["sweep", "simulate", *words, *changes, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["sweeps"]
    assert first["epochs"] != second["epochs"]
    assert found["median"]["best"] == pytest.approx((first["best"] + second["best"]) / 2)
    assert first["best"] <= found["best_recorded"]
    assert 0 < first["epochs"] <= 6 * 27


def test_what_is_on_record_is_told_exported_and_decided_again(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "small"
    stopping = {"rule": "successive_halving", "min_epochs": 1, "audit": {"share": 0, "least": 1}}
    ledger = swept_directory(root, stopping=stopping, noise={"seeds": 1, "best_seeds": 3}, trials=9)
    states = {entry.number: entry.state for entry in ledger.trials}
    rows = sum(entry.epoch for entry in ledger.trials)
    assert set(states.values()) == {"complete", "pruned"}

    assert main(["sweep", "status", str(root)]) == 0
    told = capsys.readouterr().out
    assert "finished" in told
    assert "left: nothing" in told
    assert "mean of 3 seeds" in told
    assert main(["sweep", "replay", str(root)]) == 0
    assert (
        f"{len(states)} suggestions and {rows} decisions computed again: all equal" in capsys.readouterr().out
    )
    for suffix in ("csv", "parquet", "json"):
        assert main(["sweep", "export", str(root), "-o", str(tmp_path / f"table.{suffix}")]) == 0
        assert f"{rows} rows" in capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text())
    assert len(table) == rows
    assert {row["trial"]: row["state"] for row in table} == states
    assert main(["show", str(root)]) == 0
    shown = capsys.readouterr().out
    for part in ("mean of 3 seeds", "seed +1", "pruned", "audited", "chosen"):
        assert part in shown, part


def test_a_record_that_was_tampered_with_is_not_confirmed(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "small"
    ledger = swept_directory(root, stopping={"rule": "successive_halving", "min_epochs": 1}, trials=8)
    pruned = next(entry for entry in ledger.trials if entry.state == "pruned")
    journal = (root / "study.log").read_text()
    reason = str(pruned.reports[-1].stop)
    assert reason in journal
    (root / "study.log").write_text(journal.replace(reason, "no reason"))
    assert main(["sweep", "replay", str(root)]) == 1
    told = capsys.readouterr().out
    assert f"trial {pruned.number} epoch {pruned.epoch}: stop 'no reason' on record" in told


@pytest.mark.timeout(600)
def test_a_sweep_from_its_beginning_to_its_table(
    ray_cluster: ClusterInfo, tmp_path: Path, capsys: Any
) -> None:
    """Stopped from another process, looked at, extended to its end, replayed and exported."""
    file = written(tmp_path, trials=3, epochs=100, concurrent=2, warm_spare=False)
    runs, root = tmp_path / "runs", tmp_path / "runs" / "small"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = command("sweep", str(file), "--runs", str(runs), "--cluster", ray_cluster.address)
    with subprocess.Popen(
        words, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True
    ) as driver:
        try:
            deadline = time.monotonic() + 240
            while not list(root.glob("trials/*/metrics.jsonl")) and time.monotonic() < deadline:
                assert driver.poll() is None, driver.communicate()[1]
                time.sleep(0.05)
            assert main(["sweep", "status", str(root), "--json"]) == 0
            running = json.loads(capsys.readouterr().out)
            assert main(["sweep", "stop", str(root), "--wait", "60"]) == 0
            assert f"process {driver.pid}" in capsys.readouterr().out
            assert driver.wait(60) == 75
        finally:
            driver.kill()
    assert running["state"] == "running"
    assert str(driver.pid) in running["driver"]
    assert running["running"][0]["epochs"] == 100
    assert not (root / "stop").exists()

    assert main(["sweep", "status", str(root), "--json"]) == 0
    stopped = json.loads(capsys.readouterr().out)
    assert stopped["state"] == "stopped"
    assert 0 < stopped["left"]["epochs_worst"] <= 3 * 100 - stopped["spent"]["epochs"]

    words = command(
        "sweep", "extend", str(root), "trials=4", "noise.best_seeds=2", "--cluster", ray_cluster.address
    )
    went_on = subprocess.run(
        words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert went_on.returncode == 0, went_on.stderr
    assert "trials: 3 -> 4" in went_on.stdout

    assert main(["sweep", "status", str(root), "--json"]) == 0
    finished = json.loads(capsys.readouterr().out)
    assert (finished["state"], finished["states"], finished["seeds"]) == (
        "finished",
        {"complete": 3, "failed": 2},
        2,
    )
    assert finished["left"]["epochs_worst"] == 0
    assert main(["sweep", "replay", str(root)]) == 0
    assert "5 suggestions and 302 decisions computed again: all equal" in capsys.readouterr().out
    assert main(["sweep", "export", str(root), "-o", str(tmp_path / "table.csv")]) == 0
    assert "302 rows" in capsys.readouterr().out
    assert main(["show", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "mean of 2 seeds" in shown
    assert "seed +1" in shown
