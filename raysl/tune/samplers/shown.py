"""What samplers are shown of trials that did not simply complete.

                        tpe                      gp, nsga2                      cmaes (by rank)
    complete            its value; feasible      its value                      its value
    pruned              below all complete,      its last measured value, but   below all complete,
                        longer-lived first,      no better than the median of   longer-lived first,
                        then by last value       complete trials                then by last value
    running             bad until known          gp: where not to go again      not shown
                                                 (Optuna 5); nsga2: not shown
    failed by its       infeasible, the more     a tenth of the spread worse    below all others, the
    parameters          so the earlier it died   than the worst                 lower the earlier it died
    failed: killed      not shown                not shown                      not shown

A trial fails by its parameters where it ends in nan, inf, collapse, divergence, oom, an error: in whatever
is not in `BLAMELESS`. `random`, `qmc` and `grid` look at no trial. Where there are several objectives, TPE
cannot be shown where pruned trials stood, so that among those the earlier number comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from optuna.trial import FrozenTrial, TrialState, create_trial

from raysl.tune.records.entry import Entry
from raysl.tune.spaces.space import ObjectiveConfig

BLAMELESS = frozenset({"killed"})
Fate = Literal["complete", "pruned", "running", "failed", "unknown"]
Objectives = Sequence[ObjectiveConfig]


def fate(entry: Entry) -> Fate:
    """Return what a trial's end says about its parameters."""
    if entry.state == "failed":
        return "unknown" if entry.cause in BLAMELESS else "failed"
    if entry.state == "complete" and not all(map(math.isfinite, entry.values or (math.nan,))):
        return "failed"
    return entry.state


def last_value(entry: Entry, metric: str) -> float | None:
    """Return the last finite measurement of a metric."""
    for report in reversed(entry.reports):
        value = report.metrics.get(metric)
        if value is not None and math.isfinite(value):
            return value
    return None


def for_tpe(seen: Sequence[Entry], epochs: int, objectives: Objectives) -> list[FrozenTrial]:
    """Return the record as TPE is to see it."""
    return [_for_tpe(entry, epochs, objectives) for entry in seen if fate(entry) != "unknown"]


def _for_tpe(entry: Entry, epochs: int, objectives: Objectives) -> FrozenTrial:
    found, values, curve = fate(entry), None, dict[int, float]()
    # Said outright: before Optuna 5, a trial that says nothing ranks below the infeasible ones.
    attrs = {} if found == "running" else {"constraints": [0.0]}
    if found == "complete":
        values = list(entry.values or ())
    elif found == "failed":
        attrs = {"constraints": [float(max(1, epochs - entry.epoch))]}
    elif found == "pruned" and len(objectives) == 1:
        # TPE looks at the last measurement alone.
        curve = dict(sorted((at, y) for at, y in entry.curve.items() if math.isfinite(y))[-1:])
    state = {"complete": TrialState.COMPLETE, "running": TrialState.RUNNING}.get(found, TrialState.PRUNED)
    return create_trial(
        state=state,
        values=values,
        params=entry.params,
        distributions=entry.distributions,
        system_attrs=attrs,
        intermediate_values=curve,
    )


def as_complete(seen: Sequence[Entry], objectives: Objectives) -> tuple[list[FrozenTrial], list[float]]:
    """Return the record as a sampler is to see it that knows complete and running trials only.

    Returns:
        The trials, and the values that stand for a failure.
    """
    columns = [_column(seen, place, one) for place, one in enumerate(objectives)]
    trials = []
    for place, entry in enumerate(seen):
        found = fate(entry)
        if found != "unknown":
            running = found == "running"
            trials.append(
                create_trial(
                    state=TrialState.RUNNING if running else TrialState.COMPLETE,
                    values=None if running else [values[place] for values, _ in columns],
                    params=entry.params,
                    distributions=entry.distributions,
                    system_attrs=entry.system_attrs,
                )
            )
    return trials, [worst for _, worst in columns]


def _column(seen: Sequence[Entry], place: int, objective: ObjectiveConfig) -> tuple[list[float], float]:
    """Return one objective's value for every trial, and the one that stands for a failure."""
    sign = 1.0 if objective.direction == "maximize" else -1.0
    scores: dict[int, float] = {}
    pruned: dict[int, float] = {}
    for number, entry in enumerate(seen):
        found = fate(entry)
        if found == "complete" and entry.values is not None:
            scores[number] = sign * entry.values[place]
        elif found == "pruned" and (value := last_value(entry, objective.metric)) is not None:
            pruned[number] = sign * value
    middle = median(scores.values()) if scores else math.inf
    scores |= {number: min(score, middle) for number, score in pruned.items()}
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    worst = low - 0.1 * ((high - low) or abs(low) or 1.0)
    worst = worst if math.isfinite(worst) else low
    # A pruned trial of which nothing was measured is as bad as the worst.
    others = [low if fate(entry) == "pruned" else worst for entry in seen]
    return [sign * scores.get(number, others[number]) for number in range(len(seen))], sign * worst


def ranks(seen: Sequence[Entry], objective: ObjectiveConfig) -> dict[int, int]:
    """Return the place of every trial that says anything, by number; 0 is the best, equals share theirs."""
    sign = 1.0 if objective.direction == "maximize" else -1.0
    keys: dict[int, tuple[float, ...]] = {}
    for entry in seen:
        found = fate(entry)
        if found == "complete" and entry.values is not None:
            keys[entry.number] = (2.0, sign * entry.values[0])
        elif found == "pruned":
            value = last_value(entry, objective.metric)
            keys[entry.number] = (1.0, entry.epoch, -math.inf if value is None else sign * value)
        elif found == "failed":
            keys[entry.number] = (0.0, entry.epoch)
    places = {key: place for place, key in enumerate(sorted(set(keys.values()), reverse=True))}
    return {number: places[key] for number, key in keys.items()}
