"""Lengths of training, as a person writes them.

One of:

    10           10 epochs
    2.5          two and a half epochs
    "5%"         of the schedule's horizon
    "500 steps"  optimizer steps
    -25          25 epochs before the horizon's end

They become optimizer steps once the data are known.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_PERCENT = re.compile(r"^([0-9]*\.?[0-9]+)\s*%$")
_STEPS = re.compile(r"^([0-9]+)\s*steps?$")


_EXPECTED = "expected epochs (10), a share of the horizon ('5%') or steps ('500 steps')"


def is_relative(text: str) -> bool:
    """Tell whether a text is a share of the horizon or a number of steps."""
    return bool(_PERCENT.match(text) or _STEPS.match(text))


def _check(value: Any) -> Any:
    if isinstance(value, str) and not is_relative(value):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(_EXPECTED) from None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str) and not (number and math.isfinite(value)):
        raise ValueError(_EXPECTED)
    return value


Duration = Annotated[int | float | str, BeforeValidator(_check)]
"""A length: epochs (a negative number counts back from the horizon), `"N%"` of it, or `"N steps"`."""


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
