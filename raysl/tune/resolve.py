"""From suggested parameters to the run config they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysl.config import build, leaves, merge, nested
from raysl.errors import InputError
from raysl.methods import own
from raysl.train.config import RunConfig
from raysl.tune.expression import Expression
from raysl.tune.space import Domain, Scalar, SpaceConfig

Params = Mapping[str, Scalar]


class Space:
    """A search space with its recipes read: turns parameters into run configs and says which cannot be.

    Args:
        config: the search space.

    Raises:
        InputError: a recipe is missing or wrong, a searched key does not exist, a domain's edge is outside
            the field's bounds, or a constraint names no key. One line each.
    """

    def __init__(self, config: SpaceConfig) -> None:
        self.config = config
        spread, _ = merge([nested(key, value) for key, value in config.overrides.items()])
        budget = {"train": {"epochs": config.epochs}} if config.epochs is not None else {}
        self._values, self._origins = merge([*config.base, spread, budget])
        self.own_methods: dict[str, own.Source] = {}
        """The methods in files of the user's own that a trial may have, by reference."""
        self.base = self._build(self._values, self._origins)
        self._constraints = [Expression(text) for text in config.constraints]
        self._check()

    @property
    def epochs(self) -> int:
        """Epochs of a trial that is not stopped."""
        return self.base.train.epochs

    def is_active(self, domain: Domain, params: Params) -> bool:
        """Tell whether a key is searched, given the parameters before it."""
        return all(
            self._value(key, params) in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in domain.when.items()
        )

    def run_config(self, params: Params) -> RunConfig:
        """Return the config of a trial.

        Raises:
            InputError: the config models refuse these values.
        """
        values, origins = merge([self._values, *(nested(key, value) for key, value in params.items())])
        origins = (
            self._origins
            | dict.fromkeys(params, "search")
            | {k: v for k, v in origins.items() if k in params}
        )
        return self._build(values, {key: origins[key].replace("given values", "search") for key in origins})

    def _build(self, values: dict[str, Any], origins: dict[str, str]) -> RunConfig:
        """Build a config in which a user's own method stays what it was when this space was read."""
        method = values.get("method")
        method = {"name": method} if isinstance(method, str) else method
        if isinstance(method, Mapping) and method.get("name") in self.own_methods:
            digest = method.get("source_sha256") or self.own_methods[method["name"]].sha256
            values = {**values, "method": {**method, "source_sha256": digest}}
        config = build(RunConfig, values, origins)
        if (source := own.source_of(config.method)) is not None:
            self.own_methods[source.reference] = source
        return config

    def refusal(self, params: Params) -> str | None:
        """Return why these parameters cannot be a trial, or None where they can."""
        try:
            values = self.run_config(params).to_dict()
        except InputError as error:
            return str(error)
        broken = [constraint.text for constraint in self._constraints if not constraint.holds(values)]
        return f"breaks {broken[0]!r}" if broken else None

    def _value(self, key: str, params: Params) -> Any:
        return params[key] if key in params else dict(leaves(self.base.to_dict())).get(key)

    def _check(self) -> None:
        """Try every edge of every domain once, with the others left at the recipe's values."""
        mistakes: dict[tuple[str, str], str] = {}
        for key, domain in self.config.search.items():
            # The keys that make this one active are set to the first value that does.
            needed = {
                other: wanted[0] if isinstance(wanted, list) else wanted
                for other, wanted in domain.when.items()
            }
            for end in domain.ends():
                try:
                    self.run_config({**needed, key: end})
                except InputError as error:
                    for line in str(error).splitlines():
                        # Both ends may break the same bound, which is one mistake.
                        mistakes.setdefault((key, line.rpartition(": ")[2]), line)
        if mistakes:
            raise InputError("\n".join(mistakes.values()))
        for constraint in self._constraints:
            constraint.holds(self.base.to_dict())
