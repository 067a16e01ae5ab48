"""Stopping rules that could not act are refused at the start; the others are told in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from raysl.errors import InputError
from raysl.tune.judging.rungs import judged_epochs
from raysl.tune.planning.check import check_stopping
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space

AUDIT = "; 5 % of the losers, at least 4, run on"
HALVING = {"rule": "successive_halving"}
RANK = {"objective": {"metric": "diag/rankme"}}


def built(stopping: dict[str, Any], every: int = 1, **changes: Any) -> Space:
    return Space(
        space(**{"stopping": stopping, "epochs": 9, "overrides": {"diagnostics.every": every}} | changes)
    )


@pytest.mark.parametrize(
    ("stopping", "every", "told"),
    [
        (HALVING, 2, "successive_halving at epochs 2, 6"),
        ({"rule": "hyperband", "min_epochs": 1, "reduction_factor": 2}, 1, "hyperband at epochs 1, 2, 4, 8"),
        ({"rule": "median", "min_epochs": 3}, 2, "median from epoch 4"),
        ({"rule": "percentile", "percentile": 10}, 1, "percentile from epoch 2"),
        ({"rule": "patience", "patience": 7}, 1, "patience of 7 measured epochs"),
    ],
)
def test_each_rule_is_told_in_a_few_words(stopping: dict[str, Any], every: int, told: str) -> None:
    assert check_stopping(built(stopping, every)) == told + AUDIT
    assert check_stopping(built(stopping | {"audit": {"share": 0, "least": 0}}, every)) == told
    assert check_stopping(built({"rule": "none", "min_epochs": 99})) == "none"


@pytest.mark.parametrize(
    ("stopping", "every", "told"),
    [
        (HALVING | {"min_epochs": 9}, 1, "trials have 9 epochs, so none could be stopped"),
        ({"rule": "patience", "min_epochs": 9}, 1, "trials have 9 epochs, so none could be stopped"),
        (HALVING, 6, "not measured at epochs 2, 6, where successive_halving .* use diagnostics.every=2"),
        ({"rule": "hyperband", "min_epochs": 3}, 2, "at epochs 3, where hyperband compares trials"),
        ({"rule": "median"}, 9, "not measured from epoch 2 to 8, where median may stop a trial"),
        ({"rule": "percentile"}, 20, "where percentile may stop a trial; use a smaller diagnostics.every"),
        (
            {"rule": "patience", "patience": 8},
            1,
            "stopping.patience = 8: trials have 7 measured epochs after",
        ),
        ({"rule": "patience", "patience": 4}, 2, "trials have 3 measured epochs after the first"),
    ],
)
def test_a_rule_that_could_not_act_is_refused(stopping: dict[str, Any], every: int, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        check_stopping(built(stopping, every))
    assert "\n" not in str(caught.value)


def test_other_metrics_are_measured_at_every_epoch() -> None:
    assert check_stopping(built(HALVING, 6, **RANK)) == "successive_halving at epochs 2, 6" + AUDIT


def test_the_metric_that_stops_is_the_one_that_must_be_measured() -> None:
    objective = [{"metric": "diag/rankme"}, {"metric": "eval/knn_top1"}]
    assert check_stopping(built(HALVING, 6, objective=objective))
    with pytest.raises(InputError, match="eval/knn_top1 is not measured at epochs 2, 6"):
        check_stopping(built(HALVING, 6, objective=objective, stop_on="eval/knn_top1"))


@pytest.mark.parametrize(
    ("stopping", "every", "ends", "expected"),
    [
        (HALVING, 2, [9], (2, 6)),
        ({"rule": "hyperband"}, 2, [9], (2, 6)),
        (HALVING, 1, [4, 9], (2, 4)),
        ({"rule": "median"}, 4, [9], (4, 8)),
        ({"rule": "none"}, 1, [9], ()),
        ({"rule": "none"}, 1, [3, 9], (3,)),
    ],
)
def test_trials_are_judged_at_rungs_and_at_the_ends_of_proxies(
    stopping: dict[str, Any], every: int, ends: list[int], expected: tuple[int, ...]
) -> None:
    made = built(stopping, every)
    assert judged_epochs(made.config, made.base, ends) == expected
