"""Stopping rules: pure functions of the recorded curves.

A rule is asked once, when a report arrives, and its answer is stored with the report; asked again about the
same history it gives the same answer, so a sweep can be continued, replayed and simulated. A rule never sees
the clock, the order of trials or its own earlier answers, other than as losers on record.
"""

from __future__ import annotations

from raysl.tune.judging.audit import Audited
from raysl.tune.judging.history import GO_ON, Curve, Curves, Decision, History, Rule
from raysl.tune.judging.rules import Hyperband, NoStopping, Patience, PercentileRule, SuccessiveHalving
from raysl.tune.spaces.stopping_config import StoppingConfig

__all__ = [
    "GO_ON",
    "Audited",
    "Curve",
    "Curves",
    "Decision",
    "History",
    "Hyperband",
    "NoStopping",
    "Patience",
    "PercentileRule",
    "Rule",
    "SuccessiveHalving",
    "build_rule",
]


def build_rule(config: StoppingConfig, epochs: int, maximize: bool) -> Rule:
    """Make the rule a space asks for, over trials of so many epochs, with its audit.

    Args:
        config: the rule.
        epochs: epochs of a whole trial.
        maximize: whether larger values of the metric are better.
    """
    rule = _bare(config, epochs, maximize)
    if isinstance(rule, NoStopping):
        return rule
    return Audited(
        rule,
        epochs,
        share=config.audit.share,
        least=config.audit.least,
        min_signal=config.min_signal,
        signal_trials=config.signal_trials,
    )


def _bare(config: StoppingConfig, epochs: int, maximize: bool) -> Rule:
    first, eta = config.min_epochs, config.reduction_factor
    match config.rule:
        case "successive_halving":
            return SuccessiveHalving(epochs, first, eta, maximize)
        case "hyperband":
            return Hyperband(epochs, first, eta, maximize)
        case "median":
            return PercentileRule(epochs, first, config.min_trials, maximize, 50.0)
        case "percentile":
            return PercentileRule(epochs, first, config.min_trials, maximize, config.percentile)
        case "patience":
            return Patience(epochs, first, config.patience, config.min_delta, maximize)
        case "none":
            return NoStopping()
