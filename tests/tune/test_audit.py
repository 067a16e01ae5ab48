"""The rung audit: which losers run on, and rungs that stop nobody because they say too little."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import pytest

from raysl.tune.judging.audit import quota
from raysl.tune.judging.stopping import Decision, History
from tests.tune.histories import EPOCHS, NO_AUDIT, build


@pytest.mark.parametrize("share", ["0", "0.05", "0.07", "0.1", "0.5", "1"])
@pytest.mark.parametrize("least", [0, 1, 4])
def test_the_quota_is_the_share_and_at_first_every_third_loser(share: str, least: int) -> None:
    before = 0
    for losers in range(1, 201):
        found = quota(losers, float(share), least)
        exact = max(math.ceil(Fraction(share) * losers), min(least, math.ceil(losers / 3)))
        assert found == exact
        # One more loser is at most one more audit, so that the quota is always met and never exceeded.
        assert 0 <= found - before <= 1
        before = found


def test_by_default_it_is_losers_1_4_7_10_and_one_in_twenty() -> None:
    audited = [k for k in range(1, 130) if quota(k, 0.05, 4) > quota(k - 1, 0.05, 4)]
    assert audited == [1, 4, 7, 10, 81, 101, 121]


def at_a_rung(related: bool, *, audited: int = 4, survivors: int = 8) -> History:
    """Trials measured at epoch 1 and at the end, which says the same or something else; 99 is the worst."""
    draw = random.Random(2)
    numbers = range(audited + survivors)
    ends = [float(n) for n in numbers]
    if not related:
        draw.shuffle(ends)
    curves = {n: {1: float(n), EPOCHS: ends[n]} for n in numbers} | {99: {1: -1.0}}
    lost = dict.fromkeys(range(audited), 1)
    return History(curves, frozenset(numbers), lost, frozenset(range(200, 240)))


def ask(history: History, **changes: Any) -> Decision:
    return build("successive_halving", **changes).decide(history, 99, 1)


def test_a_rung_that_says_little_about_the_end_stops_nobody() -> None:
    found = ask(at_a_rung(related=False))
    assert found.spared
    assert not found.stop
    assert not found.audit
    assert found.reason == (
        "the signal at epoch 1 is weak (rank correlation -0.52 of 12 trials): nobody is stopped here; "
        "rank 13 of 13 at epoch 1, where the best 4 go on"
    )
    assert found.peers == tuple(range(12))


def test_a_rung_that_says_much_goes_on_stopping() -> None:
    assert ask(at_a_rung(related=True)).stop


@pytest.mark.parametrize("changes", [{"min_signal": None}, {"min_signal": -0.6}, {"signal_trials": 13}])
def test_how_little_and_how_well_known_can_be_set(changes: dict[str, Any]) -> None:
    assert ask(at_a_rung(related=False), **changes).stop


def test_it_takes_four_audited_losers_to_know() -> None:
    assert ask(at_a_rung(related=False, audited=3, survivors=9), audit=NO_AUDIT).stop


def test_an_audited_loser_is_told_so_and_goes_on() -> None:
    curves = {number: {1: float(number)} for number in range(6)}
    built = build("successive_halving")
    first = built.decide(History(curves), 0, 1)
    assert first == Decision(
        False,
        "rank 6 of 6 at epoch 1, where the best 2 go on; runs on as part of the rung audit",
        (1, 2, 3, 4, 5),
        audit=True,
    )
    second = built.decide(History(curves, audited={0: 1}), 1, 1)
    assert second.stop
    assert second.reason == "rank 5 of 6 at epoch 1, where the best 2 go on"
    # A crash may come after its stop was put on record: it is still the second loser, not the third.
    assert built.decide(History(curves, audited={0: 1}, stopped=frozenset({1})), 1, 1) == second
    third = built.decide(History(curves, audited={0: 1}, stopped=frozenset({1})), 2, 1)
    assert third.stop
    fourth = built.decide(History(curves, audited={0: 1}, stopped=frozenset({1, 2})), 3, 1)
    assert fourth.audit
