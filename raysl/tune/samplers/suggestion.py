"""What a suggestion is, and domains in the forms that samplers need: Optuna's, and the unit interval."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from raysl.tune.spaces.domains import CategoricalDomain, Domain, IntDomain, Scalar
from raysl.tune.spaces.resolve import Space


@dataclass(frozen=True)
class Suggestion:
    """Parameters for the next trial.

    Args:
        params: value of every active key.
        distributions: Optuna's form of their domains.
        rejected: suggestions before it that broke a constraint.
        system_attrs: what the sampler itself wants kept with the trial.
    """

    params: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]
    rejected: int = 0
    system_attrs: dict[str, Any] = field(default_factory=dict)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence what Optuna says at every study and ask: that one was created, that `group` is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's form of a domain."""
    if isinstance(domain, CategoricalDomain):
        return CategoricalDistribution(domain.choices)
    with quiet_optuna():  # it says that a step does not divide the domain, and ends it at the last value
        if isinstance(domain, IntDomain):
            return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
        return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def chosen(
    space: Space,
    choose: Callable[[str, Domain], Scalar],
    rejected: int = 0,
    attrs: dict[str, Any] | None = None,
) -> Suggestion:
    """Return the suggestion that has, for every active key in order, the chosen value."""
    params: dict[str, Scalar] = {}
    for key, domain in space.config.search.items():
        if space.is_active(domain, params):
            params[key] = choose(key, domain)
    domains = {key: distribution(space.config.search[key]) for key in params}
    return Suggestion(params, domains, rejected, attrs or {})


def seed_of(*parts: int) -> int:
    """Return one seed of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def levels(domain: Domain) -> int | None:
    """Return how many values a domain has; None where it is continuous."""
    if domain.size < math.inf:
        return int(domain.size)
    return 1 if isinstance(domain, CategoricalDomain) or domain.low == domain.high else None


def level(domain: Domain, number: int) -> Scalar:
    """Return a value of a finite domain by its number from 0."""
    if isinstance(domain, CategoricalDomain):
        return domain.choices[number]
    if isinstance(domain, IntDomain):
        return domain.low + number * domain.step
    # In decimals, because 0.1 + 2 * 0.1 is not 0.3.
    return float(Decimal(str(domain.low)) + number * Decimal(str(domain.step or 0.0)))


def at(domain: Domain, share: float) -> Scalar:
    """Return the value that lies at a share of a domain.

    Args:
        domain: the domain.
        share: from 0 to 1, of the interval, of its logarithm, or of the number of values.
    """
    share = min(max(share, 0.0), 1.0)
    if not isinstance(domain, CategoricalDomain) and domain.log and domain.low < domain.high:
        # Each whole number has the part of the logarithm's interval from half below it to half above.
        margin = 0.5 if isinstance(domain, IntDomain) else 0.0
        low, high = math.log(domain.low - margin), math.log(domain.high + margin)
        value = min(max(math.exp(low + share * (high - low)), domain.low), domain.high)
        return min(max(round(value), domain.low), domain.high) if margin else value
    count = levels(domain)
    if count is not None:
        return level(domain, min(int(share * count), count - 1))
    low, high = float(domain.ends()[0] or 0.0), float(domain.ends()[-1] or 0.0)
    return min(max(low + share * (high - low), low), high)
