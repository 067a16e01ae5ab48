"""Domains: the values that a searched key may take."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from raysl.config import Config

Scalar = bool | int | float | str | None
When = dict[str, Scalar | Annotated[list[Scalar], Field(min_length=1)]]
_WHEN = (
    "Searched only where these keys have these values (one, or one of a list); keys come earlier in the file."
)


class FloatDomain(Config):
    """A real interval, `low` to `high`, both included."""

    type: Literal["float"]
    """`float`."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether the logarithm is what is searched uniformly."""
    step: Annotated[float, Field(gt=0.0)] | None = None
    """Grid width; not with `log`."""
    when: When = Field(default_factory=dict, description=_WHEN)

    @model_validator(mode="after")
    def _in_order(self) -> FloatDomain:
        _check_interval(self.low, self.high, self.log)
        if self.log and self.step is not None:
            raise ValueError("step and log exclude each other; leave one out")
        return self

    def ends(self) -> list[Scalar]:
        """Return the values at the edge of the domain, for checking a space before it is run."""
        if self.step is None:
            return [self.low, self.high]
        # A step may end short of `high`. In decimals, because 0.1 + 2 * 0.1 is not 0.3.
        return [self.low, float(Decimal(str(self.low)) + int(self.size - 1) * Decimal(str(self.step)))]

    def typed(self, value: Scalar) -> Scalar:
        """Return a value as this domain has it."""
        return float(value) if _is_number(value) else value

    def contains(self, value: Scalar) -> bool:
        """Tell whether a value is one of the domain's."""
        return _is_number(value) and self.low <= value <= self.high and _on_grid(value - self.low, self.step)

    def describe(self) -> str:
        """Return the domain in a few words."""
        return _interval(self.low, self.high, self.log, self.step)

    @property
    def size(self) -> float:
        """How many values it has."""
        return math.inf if self.step is None else 1 + math.floor((self.high - self.low) / self.step + 1e-9)


class IntDomain(Config):
    """Whole numbers, `low` to `high`, both included."""

    type: Literal["int"]
    """`int`."""
    low: int
    """Smallest value."""
    high: int
    """Largest value."""
    log: bool = False
    """Whether the logarithm is what is searched uniformly."""
    step: int = Field(1, ge=1)
    """Distance between values; 1 with `log`."""
    when: When = Field(default_factory=dict, description=_WHEN)

    @model_validator(mode="after")
    def _in_order(self) -> IntDomain:
        _check_interval(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError("step and log exclude each other; leave one out")
        return self

    def ends(self) -> list[Scalar]:
        """Return the values at the edge of the domain, for checking a space before it is run."""
        return [self.low, self.high - (self.high - self.low) % self.step]

    def typed(self, value: Scalar) -> Scalar:
        """Return a value as this domain has it."""
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def contains(self, value: Scalar) -> bool:
        """Tell whether a value is one of the domain's."""
        return _is_number(value) and self.low <= value <= self.high and _on_grid(value - self.low, self.step)

    def describe(self) -> str:
        """Return the domain in a few words."""
        return _interval(self.low, self.high, self.log, None if self.step == 1 else self.step)

    @property
    def size(self) -> float:
        """How many values it has."""
        return 1 + (self.high - self.low) // self.step


class CategoricalDomain(Config):
    """A handful of values without order."""

    type: Literal["categorical"]
    """`categorical`."""
    choices: tuple[Scalar, ...] = Field(min_length=1)
    """The values."""
    when: When = Field(default_factory=dict, description=_WHEN)

    @field_validator("choices")
    @classmethod
    def _each_once(cls, choices: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        # 1, 1.0 and true are one value to samplers and to the ledger.
        again = [choice for number, choice in enumerate(choices) if choice in choices[:number]]
        if again:
            raise ValueError(f"{again[0]!r} is there before; each value once")
        return choices

    def ends(self) -> list[Scalar]:
        """Return every choice, for checking a space before it is run."""
        return list(self.choices)

    def typed(self, value: Scalar) -> Scalar:
        """Return a value as this domain has it."""
        return next((choice for choice in self.choices if choice == value), value)

    def contains(self, value: Scalar) -> bool:
        """Tell whether a value is one of the domain's."""
        return value in self.choices

    def describe(self) -> str:
        """Return the domain in a few words."""
        return "one of " + ", ".join(map(str, self.choices))

    @property
    def size(self) -> float:
        """How many values it has."""
        return len(self.choices)


def _branch(value: Any) -> str | None:
    """Return the branch of the union; the hyphen keeps it out of the keys that messages name."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"domain-{kind}" if kind in ("float", "int", "categorical") else None


Domain = Annotated[
    Annotated[FloatDomain, Tag("domain-float")]
    | Annotated[IntDomain, Tag("domain-int")]
    | Annotated[CategoricalDomain, Tag("domain-categorical")],
    Discriminator(
        _branch,
        custom_error_type="domain",
        custom_error_message="a mapping whose type is float, int or categorical",
    ),
]


def condition_of(domain: Domain) -> str:
    """Return when a key is searched, in a few words; empty where it always is."""
    return " and ".join(
        f"{key} is {' or '.join(map(str, wanted))}" if isinstance(wanted, list) else f"{key} = {wanted}"
        for key, wanted in domain.when.items()
    )


def _check_interval(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low = {low} is above high = {high}; swap them")
    if log and low <= 0:
        raise ValueError(f"low = {low}: a log domain starts above 0")


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _on_grid(distance: float, step: float | None) -> bool:
    return step is None or abs(distance / step - round(distance / step)) < 1e-8


def _interval(low: float, high: float, log: bool, step: float | None) -> str:
    return f"{low:g} to {high:g}" + (" (log)" if log else "") + ("" if step is None else f" by {step:g}")
