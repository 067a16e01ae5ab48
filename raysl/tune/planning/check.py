"""What a sweep is checked for before anything starts."""

from __future__ import annotations

from raysl.errors import InputError
from raysl.tune.judging.rungs import measured, rule_of
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.stopping_config import StoppingConfig


def check_stopping(space: Space) -> str:
    """Return the stopping rule in a few words.

    Raises:
        InputError: it could never act, or compares trials after epochs at which nothing is measured.
    """
    stopping, every = space.config.stopping, space.base.diagnostics.every
    if stopping.rule == "none":
        return "none"
    if stopping.min_epochs >= space.epochs:
        raise InputError(
            f"stopping.min_epochs = {stopping.min_epochs}: trials have {space.epochs} epochs, so none could "
            "be stopped; lower it, raise epochs, or set stopping.rule=none"
        )
    rungs = rule_of(space.config, space.epochs).rungs()
    known = measured(space.config, space.base, rungs)
    if stopping.rule in ("successive_halving", "hyperband"):
        shown = ", ".join(map(str, rungs))
        # The first rung divides the others.
        if known != rungs:
            raise InputError(
                f"diagnostics.every = {every}: {space.config.judged.metric} is not measured at epochs "
                f"{shown}, where {stopping.rule} compares trials; use diagnostics.every={rungs[0]}"
            )
        return f"{stopping.rule} at epochs {shown}{_audit(stopping)}"
    if not known:
        raise InputError(
            f"diagnostics.every = {every}: {space.config.judged.metric} is not measured from epoch "
            f"{rungs[0]} to {rungs[-1]}, where {stopping.rule} may stop a trial; use a smaller "
            "diagnostics.every"
        )
    if stopping.rule == "patience":
        # The first measured epoch is what the others are compared with.
        waits = len(measured(space.config, space.base, range(1, space.epochs))) - 1
        if waits < stopping.patience:
            raise InputError(
                f"stopping.patience = {stopping.patience}: trials have {max(waits, 0)} measured epochs after "
                "the first and before the last, so none could be stopped; lower it, or raise epochs"
            )
        return f"patience of {stopping.patience} measured epochs{_audit(stopping)}"
    return f"{stopping.rule} from epoch {known[0]}{_audit(stopping)}"


def _audit(stopping: StoppingConfig) -> str:
    share, least = stopping.audit.share, stopping.audit.least
    return f"; {100 * share:g} % of the losers, at least {least}, run on" if share or least else ""
