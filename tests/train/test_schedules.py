"""Learning rates and momenta against the original repositories, and horizons that do not move."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from raysl.errors import InputError
from raysl.methods.base import Plan, cosine_momentum, resolve_momentum
from raysl.train.config import RunConfig
from raysl.train.schedules import describe, learning_rate, make_plan, weight_decay
from tests.train.made import config, digits, results, train

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "schedules.json").read_text())
"""Excerpts of schedules computed by the original code (repository and commit in each case)."""


def cases(prefix: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["id"].startswith(prefix)]


def curve(run_config: RunConfig, steps_per_epoch: int, steps: list[int]) -> list[float]:
    plan = make_plan(run_config, steps_per_epoch * run_config.train.batch_size)
    return [learning_rate(run_config, plan, step) for step in steps]


@pytest.mark.parametrize("case", cases("01_mec"))
def test_warmup_from_zero_and_cosine_are_mecs(case: dict[str, Any]) -> None:
    given = case["hyperparameters"]
    run_config = config(
        f"optimizer.lr={given['init_lr']}",
        f"train.epochs={given['epochs']}",
        f"schedule.warmup={given['warmup_epochs']}",
        "schedule.warmup_from=zero",
    )
    assert curve(run_config, given["niter_per_ep"], case["steps"]) == pytest.approx(case["lr"], rel=1e-12)


@pytest.mark.parametrize("case", cases("01_mec"))
def test_teacher_momentum_is_mecs(case: dict[str, Any]) -> None:
    given = case["hyperparameters"]
    total = given["epochs"] * given["niter_per_ep"]
    momenta = [cosine_momentum(given["teacher_momentum"], step / total) for step in case["steps"]]
    assert momenta == pytest.approx(case["momentum"], rel=1e-12)


@pytest.mark.parametrize("case", cases("04_contrastive"))
def test_step_and_constant_schedules_are_w_mses(case: dict[str, Any]) -> None:
    given = case["hyperparameters"]
    shape = (
        [f"schedule.milestones=[-{given['drop'][0]}, -{given['drop'][1]}]", "schedule.name=step"]
        if "step" in case["id"]
        else ["schedule.name=constant"]
    )
    run_config = config(
        f"optimizer.lr={given['lr']}",
        f"train.epochs={given['epochs']}",
        "schedule.warmup=500 steps",
        f"schedule.factor={given['gamma']}",
        *shape,
    )
    assert curve(run_config, given["iters_per_epoch"], case["steps"]) == pytest.approx(case["lr"], rel=1e-12)


def test_final_is_a_share_of_the_peak_and_holds_past_the_horizon() -> None:
    run_config = config("optimizer.lr=2", "schedule.final=0.25", "schedule.horizon=2", "train.epochs=3")
    assert curve(run_config, 4, [0, 4, 8, 11]) == pytest.approx([2.0, 1.25, 0.5, 0.5])


def test_by_epoch_the_rate_changes_only_where_an_epoch_begins() -> None:
    run_config = config("train.epochs=4", "schedule.by=epoch", "schedule.warmup=3 steps")
    plan = make_plan(run_config, 2 * 32)
    found = [learning_rate(run_config, plan, step) for step in range(9)]
    epochs = [0.1 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(5)]
    warm = [0.1 / 3, 0.2 / 3, 0.1]
    assert found == pytest.approx([*warm, *(epochs[epoch] for epoch in (1, 2, 2, 3, 3, 4))])


def test_the_last_step_may_have_the_final_rate() -> None:
    at = {
        where: curve(
            config("train.epochs=4", "schedule.final=0.1", f"schedule.final_at={where}"), 2, [0, 7, 8]
        )
        for where in ("horizon", "last_step")
    }
    assert at["last_step"][1:] == pytest.approx([0.01, 0.01])
    assert at["horizon"][0] == pytest.approx(0.1)
    assert at["horizon"][1] > 0.012
    assert at["last_step"][0] < 0.1


def test_restarts_begin_at_the_floor_and_decay() -> None:
    run_config = config(
        "train.epochs=5", "schedule.name=cosine_restarts", "schedule.cycle=4 steps", "schedule.final=0.5",
        "schedule.warmup=2 steps", "schedule.cycle_factor=2", "schedule.cycle_decay=0.6",
    )  # fmt: skip
    found = curve(run_config, 2, list(range(12)))
    first, second = [0.05, 0.075, 0.1, 0.075], [0.05, 0.055, 0.06, 0.05 + 0.01 * (2 + 2**0.5) / 4]
    assert found[:8] == pytest.approx([*first, *second])
    assert found[10] == found[11] == found[9]


def test_weight_decay_moves_to_its_final_value_and_stays() -> None:
    run_config = config("train.epochs=4", "optimizer.weight_decay=0.04", "optimizer.weight_decay_final=0.4")
    plan = make_plan(run_config, 2 * 32)
    found = [weight_decay(run_config.optimizer, plan, step) for step in (0, 4, 8, 20)]
    assert found == pytest.approx([0.04, 0.22, 0.4, 0.4])
    assert weight_decay(config("optimizer.weight_decay=0.04").optimizer, plan, 5) == 0.04
    assert "weight decay 0.04 to 0.4 along half a cosine over the horizon" in describe(run_config, plan)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["schedule.cycle=4"],
            "cycle, cycle_factor and cycle_decay belong to cosine_restarts, not to cosine",
        ),
        (["schedule.name=cosine_restarts", "schedule.by=epoch"], "cosine_restarts goes by step and warms up"),
        (["schedule.by=epoch", "schedule.final_at=last_step"], "final_at=last_step belongs to a cosine"),
        (["schedule.judged=[2]"], "judged and cooldown belong to wsd, not to cosine"),
        (["schedule.name=step", "schedule.milestones=[2]", "schedule.cooldown=1"], "not to step"),
        (["schedule.name=wsd", "schedule.by=epoch"], "wsd goes by step"),
        (["schedule.name=wsd", "schedule.final_at=last_step"], "final_at=last_step belongs to a cosine"),
        (["schedule.name=wsd", "schedule.judged=[4, 2]"], "epochs go up, each once"),
        (["schedule.name=wsd", "schedule.judged=[2, 2]"], "epochs go up, each once"),
        (["schedule.name=wsd", "schedule.cooldown=0"], "a cooldown is longer than 0"),
        (["schedule.name=wsd", "schedule.cooldown=-1"], "a cooldown is longer than 0"),
        (["schedule.name=wsd", "schedule.cooldown=0%"], "a cooldown is longer than 0"),
    ],
)
def test_options_of_another_schedule_are_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        config(*overrides)


@pytest.mark.parametrize(("scaling", "peak"), [("none", 0.1), ("linear", 0.4), ("sqrt", 0.2)])
def test_the_peak_scales_with_the_global_batch(scaling: str, peak: float) -> None:
    run_config = config("train.batch_size=1024", f"optimizer.lr_scaling={scaling}")
    assert run_config.optimizer.peak_lr(1024) == pytest.approx(peak)
    assert curve(run_config, 1, [0]) == pytest.approx([peak])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["schedule.name=step", "schedule.milestones=[60, 80]"], "schedule.milestones: 60 is step 240"),
        (["schedule.name=step", "schedule.milestones=[20]"], "so it would never act; move it or raise"),
        (["schedule.name=step", "schedule.milestones=[-20]"], "schedule.milestones: -20 is step 0"),
        (["schedule.name=step", "schedule.milestones=[0]"], "schedule.milestones: 0 is step 0"),
        (["schedule.name=step", "schedule.milestones=['100%']"], "'100%' is step 80"),
        (["schedule.warmup=21"], "schedule.warmup = 21: 84 steps, outside the horizon's 80"),
        (["schedule.warmup=81 steps"], "schedule.warmup = '81 steps'"),
        (["schedule.warmup=101%"], "schedule.warmup = '101%': 81 steps"),
        (["schedule.name=cosine_restarts", "schedule.cycle=21"], "schedule.cycle = 21: 84 steps; use more"),
        (
            ["schedule.name=cosine_restarts", "schedule.cycle=2", "schedule.warmup=2"],
            "use more than the warm-up's 8 and at most the horizon's 80",
        ),
        (["train.batch_size=141"], "train.batch_size = 141: larger than the 140 training images of digits"),
    ],
)
def test_what_lies_past_the_horizon_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(InputError) as caught:
        make_plan(config("train.epochs=20", *overrides), 140)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_milestone_past_the_epochs_but_within_the_horizon_is_allowed() -> None:
    run_config = config(
        "train.epochs=5", "schedule.horizon=20", "schedule.name=step", "schedule.milestones=[10]"
    )
    assert make_plan(run_config, 140).horizon_steps == 80


def test_fractions_follow_the_horizon_and_are_told_as_numbers() -> None:
    run_config = config(
        "train.epochs=5", "schedule.horizon=20", "schedule.warmup=10%",
        "schedule.name=step", "schedule.milestones=['50%', -5]",
    )  # fmt: skip
    lines = describe(run_config, make_plan(run_config, 140))
    assert "4 steps per epoch of 32 images, 5 epochs of a horizon of 20 (80 steps)" in lines
    assert "learning rate 0.1 at its peak, step, warm-up 8 steps (2 epochs)" in lines
    assert "milestones at epochs 10, 15, each times 0.1" in lines


def test_momentum_may_be_a_time_constant() -> None:
    plan = Plan(batch_size=32, steps_per_epoch=4, horizon_steps=400)
    assert resolve_momentum(0.9, plan) == 0.9
    assert resolve_momentum("5%", plan) == pytest.approx(1 - 1 / 20)
    assert resolve_momentum("200 steps", plan) == pytest.approx(1 - 1 / 200)


def test_a_run_cut_short_follows_the_curves_of_the_whole_one(tmp_path: Path) -> None:
    whole, short = "schedule.horizon=4", "train.epochs=2"
    train(config(whole, "train.epochs=4"), tmp_path / "whole", digits(70))
    train(config(whole, short), tmp_path / "short", digits(70))
    train(config(short), tmp_path / "compressed", digits(70))
    assert results(tmp_path / "short") == results(tmp_path / "whole")[:2]
    assert results(tmp_path / "compressed") != results(tmp_path / "short")


def wsd(*overrides: str) -> RunConfig:
    return config("optimizer.lr=1", "schedule.name=wsd", *overrides)


def test_wsd_cools_down_before_each_judged_epoch_and_is_back_at_the_peak() -> None:
    """Ten steps an epoch, 2 of warm-up: 20 % of 20, 40 and 20 steps, each one step short of the floor."""
    run_config = wsd(
        "train.epochs=8", "schedule.judged=[2, 6]", "schedule.cooldown=20%", "schedule.final=0.5",
        "schedule.warmup=2 steps",
    )  # fmt: skip
    found = curve(run_config, 10, list(range(82)))
    expected = [1.0] * 80 + [0.5, 0.5]
    expected[0] = 0.5
    for end, length in ((20, 4), (60, 8), (80, 4)):
        for taken in range(1, length + 1):
            expected[end - length - 1 + taken] = 1 - 0.5 * taken / (length + 1)
    assert found == pytest.approx(expected, rel=1e-12)
    lines = describe(run_config, make_plan(run_config, 10 * 32))
    told = "cooldowns: 4 steps to epoch 2, 8 steps to epoch 6, 4 steps to epoch 8, each to 0.5 of the peak"
    assert told in lines


def test_wsd_without_judged_epochs_cools_down_at_the_end_alone() -> None:
    found = curve(wsd("train.epochs=10", "schedule.cooldown=2"), 2, list(range(20)))
    assert found == pytest.approx([1.0] * 16 + [0.8, 0.6, 0.4, 0.2])


def test_a_cooldown_has_a_step_at_least_and_never_reaches_into_the_warmup() -> None:
    given = ["train.epochs=6", "schedule.judged=[1, 3]"]
    assert curve(wsd(*given, "schedule.cooldown=1%"), 4, [2, 3, 4, 10, 11, 12]) == pytest.approx(
        [1, 0.5, 1, 1, 0.5, 1]
    )
    late = curve(wsd(*given, "schedule.cooldown=5", "schedule.warmup=2 steps"), 4, list(range(5)))
    assert late == pytest.approx([0.5, 1, 2 / 3, 1 / 3, 8 / 9])


def test_a_run_cut_short_of_a_wsd_horizon_has_the_same_rates() -> None:
    given = ["schedule.horizon=9", "schedule.judged=[3]", "schedule.cooldown=50%"]
    whole, short = (curve(wsd(*given, f"train.epochs={n}"), 4, list(range(12))) for n in (9, 3))
    assert whole == short
    assert whole[11] == pytest.approx(1 / 7)


def test_judged_epochs_end_within_the_horizon_and_after_the_warmup() -> None:
    assert make_plan(wsd("train.epochs=20", "schedule.judged=[20]"), 140).horizon_steps == 80
    for overrides in (["schedule.judged=[21]"], ["schedule.judged=[2]", "schedule.warmup=2"]):
        with pytest.raises(
            InputError, match=r"schedule\.judged: the end of epoch \d+ is step \d+, not after"
        ):
            make_plan(wsd("train.epochs=20", *overrides), 140)
