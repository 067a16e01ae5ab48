"""How long the small run and the big one are, and lengths in steps carried from one to the other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from raysl.methods.base import Label

_STEPS = re.compile(r"^([0-9]+)\s*steps?$")


@dataclass(frozen=True)
class Lengths:
    """Lengths of the small and the big run, a pair each.

    Args:
        batches: images in a global batch.
        horizons: epochs of the schedules.
        steps: optimizer steps of the schedules.
        known: whether the steps are counted; else only their ratio means something.
    """

    batches: tuple[int, int]
    horizons: tuple[float, float]
    steps: tuple[int, int]
    known: bool


def label_of(old: Any, new: Any) -> Label:
    """Return the label of a value that a rule gives."""
    return "transferred" if old == new else "rescaled"


def rescaled_steps(value: Any, lengths: Lengths) -> Any:
    """Return `"500 steps"` as the same share of the big run's horizon; anything else as it is."""
    found = _STEPS.match(value) if isinstance(value, str) else None
    if found is None:
        return value
    return f"{max(1, round(int(found[1]) * lengths.steps[1] / lengths.steps[0]))} steps"
