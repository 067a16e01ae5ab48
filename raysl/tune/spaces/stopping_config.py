"""Who stops early, as a search-space file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysl.config import Config


class AuditConfig(Config):
    """Which losers run on to their end, so that the rungs can be judged. Both 0: none."""

    share: float = Field(0.05, ge=0.0, le=1.0)
    """Share of the losers."""
    least: int = Field(4, ge=0)
    """How many at least; every third of the first losers until there are as many."""


class StoppingConfig(Config):
    """Which trials are not worth going on with. Decided from the recorded curves alone."""

    rule: Literal["successive_halving", "hyperband", "median", "percentile", "patience", "none"] = (
        "successive_halving"
    )
    """`successive_halving`, `hyperband`, `median`, `percentile`, `patience` or `none`."""
    min_epochs: int = Field(2, ge=1)
    """Epochs every trial is given before it can be stopped."""
    reduction_factor: int = Field(3, ge=2)
    """`successive_halving`, `hyperband`: one in so many goes on at each rung, and rungs are that factor
    apart."""
    min_trials: int = Field(4, ge=1)
    """`median`, `percentile`: other trials that must have been measured at an epoch before it decides
    anything."""
    percentile: float = Field(25.0, ge=0.0, le=100.0)
    """`percentile`: a trial's best so far must reach what so many percent of the others have; 50 is the
    median."""
    patience: int = Field(5, ge=1)
    """`patience`: measured epochs without an improvement after which a trial is stopped."""
    min_delta: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """`patience`: how much better than the best before an epoch must be to count as an improvement."""
    audit: AuditConfig = Field(default_factory=AuditConfig)
    """Losers that run on to their end: they show what the rungs are worth."""
    min_signal: Annotated[float, Field(ge=-1.0, le=1.0)] | None = 0.3
    """Rank correlation with the end below which a rung stops nobody, once it is known; null: all rungs
    stop."""
    signal_trials: int = Field(10, ge=4)
    """Complete trials measured at a rung, 4 of them audited losers, from which its correlation counts as
    known."""
    divergence: Annotated[int, Field(ge=1)] | None = 5
    """Epochs in a row over which the training loss rises, to above that of the first epoch and with no better
    objective, after which a trial has failed; null: never."""
    trial_hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours of training, over all attempts, after which a trial is stopped; null: as many as it takes."""
