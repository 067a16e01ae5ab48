"""Whole sweeps on a simulated clock: the real agenda, searcher, rules, ledger and budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysl.errors import InputError
from raysl.tune.budget import spent
from raysl.tune.records.entry import Entry, Session
from raysl.tune.records.record import Record
from raysl.tune.replay import replay_record
from raysl.tune.simulation.simulate import Simulated, simulate
from raysl.tune.spaces.space import PricesConfig
from tests.tune.recorded import EPOCHS, KNN, built, simulated, table

_LR = {"type": "float", "low": 0.01, "high": 1.0}


@pytest.fixture(scope="module")
def swept() -> Simulated:
    return simulated()


def facts(trials: Sequence[Entry]) -> list[tuple[Any, ...]]:
    """Return all that a record says but when."""
    return [
        (
            entry.number, entry.params, entry.role, entry.state, entry.cause, entry.reason, entry.values,
            [(r.epoch, r.value, r.stop, r.audit, r.peers, r.note) for r in entry.reports],
        )
        for entry in trials
    ]  # fmt: skip


def test_a_sweep_stops_most_trials_early_and_ends_with_all_settled(swept: Simulated) -> None:
    states = [entry.state for entry in swept.trials]
    assert len(states) == 24
    assert set(states) == {"complete", "pruned"}
    assert swept.epochs < 24 * EPOCHS * 0.7
    assert sum(entry.audited for entry in swept.trials) >= 4
    assert all(entry.state == "complete" for entry in swept.trials if entry.audited)


def test_the_clock_runs_as_fast_as_slots_allow(swept: Simulated) -> None:
    busy = sum(entry.ended - entry.launches[0] for entry in swept.trials if entry.ended is not None)
    assert busy / 3 <= swept.wall_s <= busy / 3 + 2.0 * EPOCHS


def test_the_best_is_found_with_fewer_epochs_than_at_random() -> None:
    goal = sorted(trial.metrics[-1][KNN] for trial in table().trials)[-1]
    ours = [simulated(sampler={"name": "tpe", "seed": seed}, trials=60) for seed in range(4)]
    blind = [
        simulated(sampler={"name": "random", "seed": seed}, trials=60, stopping={"rule": "none"})
        for seed in range(4)
    ]

    def cost(found: list[Simulated]) -> int:
        return sum(one.epochs_to(goal, True) or one.epochs for one in found)

    assert cost(ours) < 0.7 * cost(blind)


def test_a_deterministic_sweep_is_the_same_however_fast_its_trials_are() -> None:
    same = {"deterministic": True, "concurrent": 3}
    first, second = simulated(pace=1, **same), simulated(pace=2, **same)
    assert first.wall_s != second.wall_s
    assert facts(first.trials) == facts(second.trials)
    assert facts(simulated(pace=1).trials) != facts(simulated(pace=2).trials)


def test_replay_computes_the_same_and_notices_a_changed_record(swept: Simulated) -> None:
    record = Record(Path("simulated"), built(), swept.trials, [])
    found = replay_record(record)
    assert found.differences == ()
    assert (found.suggestions, found.decisions) == (24, swept.epochs)
    other = [*swept.trials]
    lr = float(other[9].params["optimizer.lr"] or 0.0)
    other[9] = replace(other[9], params={**other[9].params, "optimizer.lr": lr * (1 + 1e-15)})
    stopped = next(entry for entry in other if entry.state == "pruned")
    last = replace(stopped.reports[-1], stop=None, ends=None, cause="")
    other[stopped.number] = replace(stopped, reports=[*stopped.reports[:-1], last])
    said = replay_record(replace(record, trials=other)).differences
    assert any(line.startswith("trial 9: params") for line in said)
    assert any(line.startswith(f"trial {stopped.number} epoch {last.epoch}: stop") for line in said)


def test_a_budget_ends_a_sweep_within_one_report() -> None:
    found = simulated(budget={"epochs": 40})
    assert 40 <= found.epochs <= 40 + 2
    assert any(entry.state == "running" for entry in found.trials)
    hours = 30.0 / 3600.0
    found = simulated(budget={"hours": hours})
    assert 30.0 <= found.wall_s <= 32.1


def test_what_was_spent_adds_up(swept: Simulated) -> None:
    used = spent(swept.trials, [Session(0.0, 3, 2.0, 0.5)], PricesConfig(gpu_hour=2.0, cpu_hour=0.1))
    assert used.hours == pytest.approx(swept.wall_s / 3600)
    assert used.gpu_hours == pytest.approx(1.5 * used.hours)
    assert used.cpu_hours == pytest.approx(6.0 * used.hours)
    assert used.money == pytest.approx(2.0 * used.gpu_hours + 0.1 * used.cpu_hours)
    assert sum(used.shares.values()) == pytest.approx(1.0)
    assert used.shares["pruned"] > 0 < used.shares["useful"]
    assert used.shares["failed"] == used.shares["lost"] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"noise": {"seeds": 3}}, "set noise.seeds=1"),
        ({"proxy": {"epochs": 3}}, "leave proxy out"),
        ({"epochs": 10}, "recorded trials have 9"),
        ({"objective": {"metric": "diag/rankme"}}, "not in the table"),
        (
            {"base": "digits/matrix_ssl", "search": {"optimizer.lr": _LR}, "overrides": {}},
            "recorded over method.temperature",
        ),
    ],
)
def test_what_was_not_recorded_cannot_be_simulated(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        simulate(built(**changes), table(3), 2)


def test_a_simulation_may_be_left_early_as_it_is_then(swept: Simulated) -> None:
    first = min((e for e in swept.trials if e.state == "complete"), key=lambda e: swept.spent[e.number])
    early = simulate(built(), table(), 3, until=lambda entry: entry.state == "complete")
    assert early.epochs == swept.spent[first.number] < swept.epochs
    assert [entry.params for entry in early.trials] == [e.params for e in swept.trials[: len(early.trials)]]
