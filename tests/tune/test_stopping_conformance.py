"""What every stopping rule promises. A new rule is added to `histories.SETTINGS` and must pass."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from raysl.tune.judging.audit import quota
from raysl.tune.judging.stopping import GO_ON, Decision, History
from raysl.tune.spaces.stopping_config import StoppingConfig
from tests.tune import histories as made
from tests.tune.histories import EPOCHS, NO_AUDIT, RANKED, SETTINGS, build, random_curves, run

ALL = sorted(SETTINGS)
LOSING = [rule for rule in ALL if rule != "none"]

# Not shrunk: a failure is shown as it was found, in seconds.
PROFILE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# Few different values, so that ties and turning points are common; and everything a float can be.
VALUES = st.one_of(st.sampled_from([-1.0, 0.0, 0.1, 0.5, 1.0]), st.floats())
CURVES = st.dictionaries(st.integers(1, EPOCHS), VALUES, max_size=EPOCHS)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A sweep of up to nine trials, with gaps in their numbers and curves, some of which have lost."""
    numbers = draw(st.lists(st.integers(0, 30), min_size=1, max_size=9, unique=True))
    curves = {number: draw(CURVES) for number in numbers}
    lost = draw(st.lists(st.sampled_from(numbers), unique=True))
    cut = draw(st.integers(0, len(lost)))
    audited = {number: draw(st.integers(1, EPOCHS - 1)) for number in lost[:cut]}
    complete = frozenset(n for n in numbers if EPOCHS in curves[n] and n not in lost[cut:])
    return History(curves, complete, audited, frozenset(lost[cut:]))


def test_every_rule_is_here() -> None:
    assert set(SETTINGS) == set(get_args(StoppingConfig.model_fields["rule"].annotation))
    assert set(RANKED) < set(SETTINGS)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("rule", ALL)
@settings(PROFILE)
@given(history=histories())
def test_whatever_the_record_says(rule: str, maximize: bool, history: History) -> None:
    shown = repr(history)
    built, again, mirrored = (
        build(rule, maximize=way, signal_trials=4) for way in (maximize, maximize, not maximize)
    )
    others, mirror = [history, made.reordered(history), made.restored(history)], made.negated(history)
    for number in sorted(history.curves):
        for epoch in range(EPOCHS + 2):
            found = built.decide(history, number, epoch)
            assert all(again.decide(other, number, epoch) == found for other in others)
            same = mirrored.decide(mirror, number, epoch)
            assert outcome(same) == outcome(found)
            if found.stop or found.audit or found.spared:
                assert found.stop + found.audit + found.spared == 1
                assert epoch in built.rungs()
                assert epoch in history.curves[number]
                assert found.reason
                assert number not in history.audited
                assert rule not in RANKED or beaten(history, number, epoch, found.peers, maximize)
            assert number not in found.peers
            for peer in found.peers:
                assert epoch in history.curves[peer]
                assert epoch <= history.audited.get(peer, EPOCHS)
    assert repr(history) == shown


def outcome(decision: Decision) -> tuple[bool, bool, bool, tuple[int, ...]]:
    """Return what is done, without its wording."""
    return decision.stop, decision.audit, decision.spared, decision.peers


def beaten(history: History, number: int, epoch: int, peers: tuple[int, ...], maximize: bool) -> bool:
    """Tell whether a peer was better than the trial then was."""
    sign, mine = (1 if maximize else -1), history.curves[number][epoch]
    values = [sign * history.curves[peer][epoch] for peer in peers]
    worst = not math.isfinite(mine)
    return any(math.isfinite(value) and (worst or value > sign * mine) for value in values)


@pytest.mark.parametrize("rule", ALL)
def test_the_rungs_are_before_the_last_epoch_and_in_order(rule: str) -> None:
    rungs = build(rule, min_epochs=2).rungs()
    assert rungs == sorted(set(rungs))
    assert all(2 <= rung < EPOCHS for rung in rungs)
    assert bool(rungs) == (rule != "none")


@pytest.mark.parametrize("rule", RANKED)
def test_alone_or_among_equals_nobody_is_stopped(rule: str) -> None:
    built = build(rule, audit=NO_AUDIT)
    for value in (0.1, -1e300, math.nan):
        for trials in (1, 12):
            history = History({n: dict.fromkeys(range(1, EPOCHS), value) for n in range(trials)})
            assert not any(
                built.decide(history, n, epoch).stop for n in range(trials) for epoch in built.rungs()
            )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("rule", RANKED)
def test_what_is_not_finite_loses_against_every_number(rule: str, maximize: bool, bad: float) -> None:
    built, sign = build(rule, maximize=maximize, audit=NO_AUDIT, reduction_factor=3), 1 if maximize else -1
    curves = {number: {1: sign * (-1e9 - number)} for number in range(16)}
    # Trials 0 and 1 of hyperband's cycle are in the bracket that begins first.
    assert built.decide(History(curves | {0: {1: bad}}), 0, 1).stop
    assert not built.decide(History(curves | {1: {1: bad}}), 0, 1).stop


@pytest.mark.parametrize("rule", LOSING)
def test_an_epoch_that_was_not_measured_decides_nothing(rule: str) -> None:
    built = build(rule, audit=NO_AUDIT)
    curves = {number: {1: float(number), 2: float(number)} for number in range(16)}
    curves[0] = {2: -1.0}
    assert built.decide(History(curves), 0, 1) == GO_ON
    assert 0 not in built.decide(History(curves), 9, 1).peers


@pytest.mark.parametrize("rule", LOSING)
@pytest.mark.parametrize("seed", range(3))
def test_the_audit_has_its_quota_and_its_trials_are_left_alone(rule: str, seed: int) -> None:
    sweep = run(build(rule, min_signal=None), random_curves(seed, 40), seed=seed)
    losers = len(sweep.stopped) + len(sweep.audited)
    assert losers > 8, "the sweep must have losers for this to say anything"
    assert len(sweep.audited) == quota(losers, 0.05, 4)
    assert sweep.audited.keys() <= sweep.complete
    assert not sweep.audited.keys() & sweep.stopped
    for number, epoch, decision in sweep.decisions:
        if epoch > sweep.audited.get(number, EPOCHS):
            assert decision == GO_ON
        for peer in decision.peers:
            assert epoch <= sweep.audited.get(peer, EPOCHS)


@pytest.mark.parametrize("rule", LOSING)
def test_a_stop_on_record_does_not_change_the_answer(rule: str) -> None:
    """A crash may come between the answer and the end of the trial."""
    truth = random_curves(5, 30)
    sweep = run(build(rule), truth, slots=1)
    number, epoch, decision = next(found for found in reversed(sweep.decisions) if found[2].stop)
    history = sweep.history()
    curves = {n: curve for n, curve in history.curves.items() if n <= number}
    kept = History(
        curves,
        frozenset(n for n in history.complete if n <= number),
        {n: at for n, at in history.audited.items() if n <= number},
        frozenset(n for n in history.stopped if n <= number),
    )
    assert number in kept.stopped
    assert build(rule).decide(kept, number, epoch) == decision


@pytest.mark.parametrize("rule", ALL)
def test_trials_to_come_change_nothing(rule: str) -> None:
    truth = random_curves(3, 40)
    first = {number: truth[number] for number in range(20)}
    short, long = (run(build(rule), curves, slots=1) for curves in (first, truth))
    assert long.decisions[: len(short.decisions)] == short.decisions


@pytest.mark.parametrize("rule", LOSING)
@pytest.mark.parametrize("changes", [{"audit": NO_AUDIT}, {"audit": {"share": 1.0, "least": 0}}])
def test_the_audit_can_be_none_or_all(rule: str, changes: dict[str, Any]) -> None:
    sweep = run(build(rule, min_signal=None, **changes), random_curves(1, 20))
    everyone = changes["audit"]["share"] == 1.0
    assert bool(sweep.audited) == everyone
    assert bool(sweep.stopped) == (not everyone)
