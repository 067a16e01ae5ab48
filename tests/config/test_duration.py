"""Lengths of training as people write them."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from raysl.config import Duration, in_steps

ADAPTER: TypeAdapter[int | float | str] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        (10, 70),
        (0, 0),
        (2.5, 18),  # rounded to the even whole step
        ("3", 21),
        ("5%", 35),
        ("0.5 %", 4),
        (".5%", 4),
        ("100%", 700),
        ("500 steps", 500),
        ("1 step", 1),
        ("20steps", 20),
        (-25, 700 - 175),
        (-0.5, 700 - 4),
    ],
)
def test_each_form_becomes_steps(written: int | float | str, steps: int) -> None:
    duration = ADAPTER.validate_python(written)
    assert in_steps(duration, steps_per_epoch=7, horizon_steps=700) == steps


@pytest.mark.parametrize(
    "written",
    ["ten", "5 %%", "-5%", "1.5 steps", "steps", "", "nan", "inf", float("inf"), True, None, [1], {}],
)
def test_other_forms_are_refused(written: object) -> None:
    with pytest.raises(ValidationError, match="expected epochs"):
        ADAPTER.validate_python(written)


def test_what_is_not_a_duration_is_never_resolved() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        in_steps("soon", steps_per_epoch=1, horizon_steps=1)
