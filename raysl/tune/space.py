"""A search space as its YAML file says it: what is searched, how, for how long, and by which rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from raysl.config import SEARCH_SPACES, Config, build, leaves, merge, nearest, nested
from raysl.errors import InputError
from raysl.train.config import RunConfig
from raysl.tune.expression import Expression

Scalar = bool | int | float | str | None
When = dict[str, Scalar | Annotated[list[Scalar], Field(min_length=1)]]
_WHEN = (
    "Searched only where these keys have these values (one, or one of a list); keys come earlier in the file."
)
_NOT_SEARCHED = {
    "data": "the images are decoded once and shared by all trials",
    "train.epochs": "trials are compared epoch by epoch; set epochs",
    "schedule.horizon": "it goes with the epochs, which all trials share; set it for all",
    "launch": "it says where a trial runs, not what it learns; set it for all",
    "checkpoint": "it does not change what a trial learns; set it for all",
    "diagnostics": "it changes how trials are measured, not what they learn; set it for all",
}


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
        return [self.low, self.high]


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
        return [self.low, self.high]


class CategoricalDomain(Config):
    """A handful of values without order."""

    type: Literal["categorical"]
    """`categorical`."""
    choices: tuple[Scalar, ...] = Field(min_length=1)
    """The values."""
    when: When = Field(default_factory=dict, description=_WHEN)

    def ends(self) -> list[Scalar]:
        """Return every choice, for checking a space before it is run."""
        return list(self.choices)


Domain = Annotated[FloatDomain | IntDomain | CategoricalDomain, Field(discriminator="type")]


class ObjectiveConfig(Config):
    """What makes one trial better than another: a metric at the end of its last epoch."""

    metric: str = "eval/knn_top1"
    """Tag of the metric."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which way is better."""


class SamplerConfig(Config):
    """Who suggests.

    A fresh one is made for every suggestion, seeded by the sweep's seed and the trial's number.
    """

    name: Literal["tpe", "random"] = "tpe"
    """`tpe` (multivariate, grouped over conditions, pessimistic about running trials) or `random`."""
    seed: int = Field(0, ge=0)
    """Seed of all suggestions."""
    n_startup_trials: int = Field(10, ge=0)
    """Finished trials before `tpe` stops suggesting at random."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of Optuna's sampler, such as `n_ei_candidates`."""


class StoppingConfig(Config):
    """Which trials are not worth going on with. Decided from the recorded curves alone."""

    rule: Literal["successive_halving", "median", "none"] = "successive_halving"
    """`successive_halving`, `median` or `none`."""
    min_epochs: int = Field(2, ge=1)
    """Epochs every trial is given before it can be stopped."""
    reduction_factor: int = Field(3, ge=2)
    """`successive_halving`: one in so many goes on at each rung, and rungs are that factor apart."""
    min_trials: int = Field(4, ge=1)
    """`median`: other trials that must have been measured at an epoch before it decides anything."""


class SpaceConfig(Config):
    """A search space: from which recipe, over which keys, judged by what, with which budget."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """What the sweep is called when nobody names it; the file's name when not given."""
    description: str = ""
    """A sentence for people."""
    base: tuple[str, ...] = Field(min_length=1)
    """Recipes or files that every trial starts from, merged left to right."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Values set in every trial, by (dotted) key."""
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    """What is optimised."""
    search: dict[str, Domain] = Field(min_length=1)
    """Searched keys of the run's config (`optimizer.lr`) and their domains."""
    constraints: tuple[str, ...] = ()
    """Expressions over config keys that must hold, such as `method.w_size > backbone.width`."""
    sampler: SamplerConfig = Field(default_factory=SamplerConfig)
    """Who suggests."""
    stopping: StoppingConfig = Field(default_factory=StoppingConfig)
    """Who stops early."""
    trials: int = Field(16, ge=1)
    """Trials in all."""
    concurrent: Annotated[int, Field(ge=1)] | None = None
    """Trials at a time; as many as the cluster holds when not given."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of a trial that is not stopped; the recipe's `train.epochs` when not given."""
    attempts: int = Field(3, ge=1)
    """How often a trial whose process dies is started before it counts as failed."""
    warm_spare: bool = True
    """Keep one more process, with everything imported, to take over at once when a trial's process dies."""
    ledger: str | None = None
    """Where the study is kept: a database URL; a journal file in the sweep's directory when not given."""

    @field_validator("base", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("constraints")
    @classmethod
    def _can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Expression(text)
        return value

    @field_validator("ledger")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value:
            raise ValueError(
                "expected a database URL, such as postgresql://user@host/raysl; leave it out for a file"
            )
        return value

    @model_validator(mode="after")
    def _keys_agree(self) -> SpaceConfig:
        seen: set[str] = set()
        fixed = {key for key, _ in leaves(self.overrides)}
        for key, domain in self.search.items():
            if key in fixed:
                raise ValueError(f"{key} is both searched and overridden; keep one")
            for part, why in _NOT_SEARCHED.items():
                if f"{key}.".startswith(f"{part}."):
                    raise ValueError(f"{key} cannot be searched: {why}")
            for other in domain.when:
                if other in self.search and other not in seen:
                    raise ValueError(
                        f"search.{key}.when names {other}, which must come before it in the file"
                    )
            seen.add(key)
        return self


def load_space(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> SpaceConfig:
    """Load a search space by name, path or value, changed by `key=value` overrides.

    A key of the space itself (`trials=8`, `search.method.mu.high=1`, `search.method.mu=null` to drop it)
    changes the space; any other is a key of the run's config, set in every trial and no longer searched.
    `train.epochs=8` means `epochs=8`.

    Raises:
        InputError: one line per mistake.
    """
    overrides = [
        f"epochs={value}" if key.strip() == "train.epochs" and equals else text
        for text in overrides
        for key, equals, value in [text.partition("=")]
    ]
    own = [text for text in overrides if text.partition("=")[0].split(".")[0] in SpaceConfig.model_fields]
    fixed = [text for text in overrides if text not in own]
    known = set(SpaceConfig.model_fields) | set(RunConfig.model_fields)
    for text in fixed:
        if (first := text.partition("=")[0].split(".")[0]) not in known:
            raise InputError(f"override {text!r}: {first}: unknown key; {nearest(first, known)}")
    stem = {} if isinstance(source, Mapping) else {"name": Path(source).stem}
    values, origins = merge([source], [text for text in own if not text.startswith("search.")], SEARCH_SPACES)
    for key in ("search", "overrides"):
        if not isinstance(values.get(key) or {}, Mapping):
            where = f"{origins[key]}: " if key in origins else ""
            raise InputError(f"{where}{key} = {values[key]!r}: expected a mapping of keys to values")
    changes, _ = merge([], [text for text in own if text.startswith("search.")], SEARCH_SPACES)
    _change_search(values, changes.get("search", {}))
    if fixed:
        dotted = {"overrides": _nested_all(values.get("overrides") or {})}
        more, _ = merge([dotted, {"overrides": merge([], fixed)[0]}])
        values["overrides"] = more["overrides"]
        keys = {text.partition("=")[0].strip() for text in fixed}
        values["search"] = {
            key: domain for key, domain in values.get("search", {}).items() if key not in keys
        }
    return build(SpaceConfig, stem | values, origins)


def _nested_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Spread dotted keys of a mapping into nested mappings."""
    merged, _ = merge([nested(key, value) for key, value in values.items()])
    return merged


def _change_search(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Apply `search.<key>={...}`, `search.<key>.<field>=value`, `search.<key>=null`; keys hold dots."""
    search = dict(values.get("search") or {})
    for key, change in _domain_changes(changes, search):
        if change is None:
            search.pop(key, None)
        elif not isinstance(change, Mapping):
            search[key] = change
        else:
            # Another type of domain has other fields, so nothing of the old one is kept.
            old = search.get(key)
            old = old if isinstance(old, Mapping) else {}
            same = change.get("type", old.get("type")) == old.get("type")
            search[key] = {**(old if same else {}), **change}
    values["search"] = search


def _domain_changes(
    changes: Mapping[str, Any], search: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (searched key, what is said about it) from nested overrides."""
    for name, change in changes.items():
        key = prefix + name
        if key in search or not isinstance(change, Mapping) or isinstance(change.get("type"), str):
            yield key, change
        else:
            yield from _domain_changes(change, search, f"{key}.")


def _check_interval(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low = {low} is above high = {high}; swap them")
    if log and low <= 0:
        raise ValueError(f"low = {low}: a log domain starts above 0")
