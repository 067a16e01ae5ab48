"""What is refused before a sweep starts, what its plan says, and whose study it writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from raysl.errors import InputError
from raysl.train.devices import choose_device
from raysl.tune.planning.plan import plan_sweep
from raysl.tune.spaces.resolve import Space
from raysl.tune.sweep import sweep
from raysl.tune.trials import engine
from raysl.tune.trials.messages import End, Launch
from raysl.tune.trials.runner import TrialRunner
from tests.tune import fake_loop
from tests.tune.conftest import space


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": {"metric": "knn_top1"}}, "did you mean 'eval/knn_top1'"),
        ({"objective": {"metric": "time/first_step"}}, "or train/ and what the method"),
        ({"objective": {"metric": "eval/knn_top11"}}, "did you mean 'eval/knn_top1'"),
        ({"overrides": {"diagnostics.knn": False}}, "eval/knn_top1.*needs labels"),
        ({"overrides": {"data.selection.fraction": 0.0}}, "eval/knn_top1.*needs labels"),
        ({"stopping": {"rule": "median", "min_epochs": 4}}, "trials have 4 epochs"),
        ({"stopping": {"min_epochs": 5}}, "trials have 4 epochs"),
        (
            {"stopping": {"min_epochs": 2}, "epochs": 9, "overrides": {"diagnostics.every": 4}},
            "at epochs 2, 6, .*use diagnostics.every=2",
        ),
    ],
)
def test_a_sweep_that_cannot_work_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        plan_sweep(space(**changes))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("stopping", "said"),
    [
        ({"rule": "successive_halving", "min_epochs": 2}, "stopping: successive_halving at epochs 2, 6"),
        ({"rule": "median", "min_epochs": 3}, "stopping: median from epoch 4"),
        ({"rule": "none", "min_epochs": 99}, "stopping: none"),
    ],
)
def test_the_plan_says_when_trials_are_compared(stopping: dict[str, Any], said: str) -> None:
    plan = plan_sweep(space(stopping=stopping, epochs=9, overrides={"diagnostics.every": 2}))
    assert any(said in line for line in plan.lines)


def test_two_sweeps_in_one_database_have_two_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysl.tune.sweep.living_nodes", lambda: [{"CPU": 2.0}])

    def run(bridge: Any, *rest: Any) -> None:
        while isinstance(launch := bridge.next("key"), Launch):
            bridge.receive("key", launch.number, launch.fence, End("error", "no luck"))

    monkeypatch.setattr(engine, "run", run)
    url = f"sqlite:///{tmp_path}/all.db"
    for _ in range(2):
        for name in ("one", "two"):
            with pytest.raises(Exception, match="2 of 2 trials: 2 failed"):
                sweep(space(trials=2, ledger=url), tmp_path / name, say=lambda line: None)
    studies = optuna.get_all_study_summaries(url)
    assert [study.n_trials for study in studies] == [2, 2]


def test_trials_train_where_they_are_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices = {
        name: choose_device(Space(space(overrides={"train.device": name})).base)
        for name in ("auto", "cuda", "cpu")
    }
    assert {name: device.type for name, device in devices.items()} == {
        "auto": "cuda",
        "cuda": "cuda",
        "cpu": "cpu",
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = Space(space(overrides={"train.device": "cuda"})).base
    with pytest.raises(InputError, match="sees no GPU"):
        choose_device(config)
    runner = TrialRunner(lambda fidelity: (None, fake_loop.epochs))  # type: ignore[arg-type,return-value]
    runner.begin(Launch(0, 1, 0, str(tmp_path / "0"), config, 0, 1, str(tmp_path / "stop")))
    assert runner.next() == End("error", "train.device = cuda: this process sees no GPU; use auto or cpu")
    runner.finish()
