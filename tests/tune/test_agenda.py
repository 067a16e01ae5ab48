"""What comes next, and which trial is chosen: pure in the record."""

from __future__ import annotations

from typing import Any

import pytest

from raysl.errors import InputError
from raysl.tune.agenda import Answer, Proposal, propose
from raysl.tune.choice import choose, pareto_front
from raysl.tune.judging.rungs import form_signals
from raysl.tune.planning.plan import check_priors
from raysl.tune.records.entry import Entry, Report, State
from raysl.tune.spaces.resolve import Space
from tests.tune.conftest import space

KNN = "eval/knn_top1"
LR = "optimizer.lr"


def built(**changes: Any) -> Space:
    return Space(space(**{"trials": 3, "sampler": {"name": "random"}} | changes))


def entry(
    proposal: Proposal, number: int, value: float | None, *, epoch_s: float = 1.0, state: State = "complete"
) -> Entry:
    """Return a trial that ended with a value, after two epochs of so many seconds; None: it runs."""
    found = Entry(number, proposal.params, proposal.distributions, proposal.role, launches=[0.0])
    for epoch in (1, 2):
        found.reports.append(Report(epoch, value, epoch * epoch_s, 1, {}))
    if value is not None:
        found.state, found.values, found.cause = state, (value,), state
    return found


def run(made: Space, values: list[float | None], **seconds: float) -> list[Entry]:
    """Go through an agenda with these outcomes, as far as they reach."""
    trials: list[Entry] = []
    for number, value in enumerate(values):
        proposal = propose(made, trials)
        assert isinstance(proposal, Proposal), proposal
        trials.append(entry(proposal, number, value, epoch_s=seconds.get(f"t{number}", 1.0)))
    return trials


def roles(trials: list[Entry]) -> list[tuple[str, int | None, int, int]]:
    return [(e.role.kind, e.role.of, e.role.seed, e.role.fidelity) for e in trials]


def test_the_recipe_comes_first_then_priors_then_suggestions_then_the_winners_seeds() -> None:
    made = built(priors=[{}, {LR: 0.01}], noise={"seeds": 3})
    trials = run(made, [50.0, 51.0, 49.0, 80.0, 60.0, 79.0, 81.0])
    assert roles(trials) == [
        ("search", None, 0, 0), ("repeat", 0, 1, 0), ("repeat", 0, 2, 0),
        ("search", None, 0, 0), ("search", None, 0, 0),
        ("repeat", 3, 1, 0), ("repeat", 3, 2, 0),
    ]  # fmt: skip
    assert propose(made, trials) is Answer.NEVER
    assert trials[0].params[LR] == made.base.optimizer.lr
    assert trials[1].params == trials[0].params
    assert trials[3].params[LR] == 0.01
    seeds = {made.trial_config(trial).train.seed for trial in trials[:3]}
    assert len(seeds) == 3
    choice = choose(trials, made.config)
    assert choice is not None
    assert (choice.chosen.number, choice.seeds, choice.mean) == (3, (80.0, 79.0, 81.0), 80.0)
    assert choice.deviation == pytest.approx(1.0)


def test_the_winners_seeds_wait_for_every_trial_and_none_follow_where_none_completed() -> None:
    made = built(noise={"seeds": 2})
    trials = run(made, [1.0, 2.0, None])
    assert propose(made, trials) is Answer.LATER
    assert propose(made, [entry(_again(t), t.number, 0.0, state="failed") for t in trials]) is Answer.NEVER


def _again(trial: Entry) -> Proposal:
    return Proposal(trial.params, trial.distributions, trial.role)


def test_the_best_of_a_proxy_are_run_whole_and_the_last_form_decides() -> None:
    made = built(proxy={"epochs": 2, "promote": 2}, epochs=4, trials=4)
    trials = run(made, [10.0, 40.0, 30.0, 20.0])
    waiting = [*trials[:3], entry(_again(trials[3]), 3, None)]
    assert propose(made, waiting) is Answer.LATER
    trials = run(made, [10.0, 40.0, 30.0, 20.0, 70.0, 75.0])
    assert roles(trials)[4:] == [("promotion", 1, 0, 1), ("promotion", 2, 0, 1)]
    assert trials[4].params == trials[1].params
    assert propose(made, trials) is Answer.NEVER
    choice = choose(trials, made.config)
    assert choice is not None
    assert choice.chosen.number == 5
    assert [made.trial_config(trials[n]).train.epochs for n in (0, 4)] == [2, 4]
    # The proxy is the beginning of the whole schedule.
    assert made.trial_config(trials[0]).horizon == made.trial_config(trials[4]).horizon == 4


def test_a_deterministic_sweep_waits_for_what_it_must_know() -> None:
    made = built(deterministic=True, concurrent=2, trials=4)
    trials = run(made, [1.0, None])
    assert isinstance(propose(made, trials), Proposal)
    trials = run(made, [None, 1.0])
    assert propose(made, trials) is Answer.LATER


def test_a_prior_of_a_deterministic_sweep_waits_too_because_it_is_compared() -> None:
    made = built(deterministic=True, concurrent=2, trials=4, priors=[{}, {LR: 0.01}], noise={"seeds": 3})
    # The further seeds are compared with nobody, so they wait for nobody.
    trials = run(made, [None, 1.0, 1.0])
    assert roles(trials)[1:] == [("repeat", 0, 1, 0), ("repeat", 0, 2, 0)]
    assert propose(made, trials) is Answer.LATER
    assert isinstance(propose(made, run(made, [1.0, 1.0, None])), Proposal)


def test_a_sweep_that_is_extended_runs_the_priors_it_lacks() -> None:
    few = {"priors": [{}, {LR: 0.01}, {LR: 0.02}], "noise": {"seeds": 2}}
    trials = run(built(**few, trials=2), [50.0, 51.0, 90.0, 91.0])
    assert roles(trials)[2:] == [("search", None, 0, 0), ("repeat", 2, 1, 0)]
    found = propose(built(**few, trials=4), trials)
    assert isinstance(found, Proposal)
    assert (found.role.kind, found.params[LR]) == ("search", 0.02)


def test_of_trials_as_good_as_the_best_the_cheapest_is_chosen() -> None:
    made = built(priors=[{}], noise={"seeds": 3, "deviations": 2.0}, trials=5)
    values: list[float | None] = [50.0, 51.0, 49.0, 80.0, 79.0, 78.5, 70.0]
    trials = run(made, values, t3=10.0, t4=5.0, t5=5.2)
    choice = choose(trials, made.config)
    assert choice is not None
    assert choice.equivalent == (3, 4, 5)
    # As cheap as each other, within what a clock can tell; then the better one.
    assert (choice.best.number, choice.chosen.number) == (3, 4)
    always = choose(trials, built(deterministic=True, concurrent=1, priors=[{}]).config)
    assert always is not None
    assert always.chosen.number == 3


def test_further_seeds_of_the_chosen_do_not_change_what_it_was_chosen_by() -> None:
    made = built(priors=[{}], noise={"seeds": 2, "best_seeds": 5, "deviations": 1.0}, trials=2)
    trials = run(made, [80.0, 80.2, 79.0, 10.0, 95.0, 50.0], t2=0.1)
    assert roles(trials)[3:] == [("repeat", 0, seed, 0) for seed in (2, 3, 4)]
    choice = choose(trials, made.config)
    assert choice is not None
    assert (choice.chosen.number, choice.equivalent) == (0, (0,))
    assert choice.deviation == pytest.approx(0.2 / 2**0.5)
    # Without a prior that begins with seeds, those of the chosen trial measure nothing either.
    bare = built(noise={"seeds": 3}, trials=2)
    choice = choose(run(bare, [80.0, 79.0, 10.0, 95.0], t1=0.1), bare.config)
    assert choice is not None
    assert (choice.chosen.number, choice.deviation) == (0, None)


def test_without_seeds_the_best_is_the_best() -> None:
    made = built()
    choice = choose(run(made, [3.0, 5.0, 5.0]), made.config)
    assert choice is not None
    assert (choice.chosen.number, choice.equivalent, choice.deviation) == (1, (1, 2), None)
    assert choose([], made.config) is None


def test_the_front_is_what_no_other_beats_in_everything() -> None:
    both = [{"metric": KNN}, {"metric": "train/loss", "direction": "minimize"}]
    made = built(objective=both, trials=4)
    trials = run(made, [1.0, 2.0, 3.0, 2.5])
    for trial, loss in zip(trials, (0.1, 0.2, 0.5, 0.6), strict=True):
        trial.values = (trial.values[0] if trial.values else 0.0, loss)
    assert pareto_front(trials, made.config) == [0, 1, 2]


def test_a_prior_outside_the_space_is_refused_with_what_to_do() -> None:
    narrow = {LR: {"type": "float", "low": 0.05, "high": 0.1}}
    with pytest.raises(InputError, match=r"priors\[0\]: optimizer.lr = .* in the recipe is not in"):
        check_priors(built(search=narrow, priors=[{}]))
    with pytest.raises(InputError, match=r"priors\[0\]: optimizer.lr = 7 is not in its domain, 0.05 to 0.1"):
        check_priors(built(search=narrow, priors=[{LR: 7}]))
    variable = {"factor": {"type": "int", "low": 1, "high": 4}}
    made = built(search=variable, tied={"train.batch_size": "64 * factor"}, overrides={}, priors=[{}])
    with pytest.raises(InputError, match=r"priors\[0\] lacks factor"):
        check_priors(made)
    assert made.run_config({"factor": 3}).train.batch_size == 192


def test_how_a_proxy_ranks_is_compared_with_the_next_form() -> None:
    made = built(proxy={"epochs": 2, "promote": 4}, epochs=4, trials=4)
    trials = run(made, [10.0, 40.0, 30.0, 20.0, 70.0, 60.0, 50.0, 40.0])
    (found,) = form_signals(trials)
    assert (found.value, found.trials) == (1.0, 4)
    trials = run(made, [10.0, 40.0, 30.0, 20.0, 40.0, 50.0, 60.0, 70.0])
    (found,) = form_signals(trials)
    assert found.value == -1.0
    assert form_signals(trials[:4]) == ()
