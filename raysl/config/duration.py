"""Lengths of training, as a person writes them.

    10           10 epochs
    2.5          two and a half epochs
    "5%"         of the schedule's horizon
    "500 steps"  optimizer steps
    -25          25 epochs before the horizon's end
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_PERCENT = re.compile(r"^([0-9]*\.?[0-9]+)\s*%$")
_STEPS = re.compile(r"^([0-9]+)\s*steps?$")


def _check(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("expected epochs (10), a share of the horizon ('5%') or steps ('500 steps')")
    if isinstance(value, str) and not (_PERCENT.match(value) or _STEPS.match(value)):
        try:
            return float(value)
        except ValueError:
            raise ValueError("expected epochs (10), a share of the horizon ('5%') or steps ('500 steps')") from None
    return value


Duration = Annotated[int | float | str, BeforeValidator(_check)]
"""A length: epochs (a number; negative counts back from the horizon), `"N%"` of the horizon, or `"N steps"`."""


def in_steps(duration: Duration, *, steps_per_epoch: int, horizon_steps: int) -> int:
    """Resolve a duration to optimizer steps.

    Args:
        duration: what the user wrote.
        steps_per_epoch: optimizer steps in one epoch at the global batch size.
        horizon_steps: optimizer steps in the schedule's horizon.

    Returns:
        Whole steps, rounded to the nearest.
    """
    if isinstance(duration, str):
        if percent := _PERCENT.match(duration):
            return round(float(percent[1]) / 100 * horizon_steps)
        if steps := _STEPS.match(duration):
            return int(steps[1])
        raise ValueError(f"not a duration: {duration!r}")
    steps_from_start = round(duration * steps_per_epoch)
    return horizon_steps + steps_from_start if duration < 0 else steps_from_start
