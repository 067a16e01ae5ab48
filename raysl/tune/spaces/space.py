"""A search space as its YAML file says it: what is searched, how, for how long, and by which rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from raysl.config import Config, leaves
from raysl.data.config import SubsetConfig
from raysl.tune.spaces.domains import Domain, Scalar
from raysl.tune.spaces.expression import Expression
from raysl.tune.spaces.sampler_config import SamplerConfig, TPEConfig
from raysl.tune.spaces.stopping_config import StoppingConfig

_NOT_SEARCHED = {
    "data": "the images are decoded once and shared by all trials",
    "train.epochs": "trials are compared epoch by epoch; set epochs",
    "train.seed": "it would be searched for luck; noise.seeds measures what it is worth",
    "schedule.horizon": "it goes with the epochs, which all trials share; set it for all",
    "launch": "it says where a trial runs, not what it learns; set it for all",
    "checkpoint": "it does not change what a trial learns; set it for all",
    "diagnostics": "it changes how trials are measured, not what they learn; set it for all",
}


def _readable(text: str) -> str:
    Expression(text)
    return text


ExpressionText = Annotated[str, AfterValidator(_readable)]


class ObjectiveConfig(Config):
    """What makes one trial better than another: a metric at the end of its last epoch."""

    metric: str = "eval/knn_top1"
    """Tag of the metric."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which way is better."""


class ProxyConfig(Config):
    """A cheaper form of the trials, in which they are searched before the best are run in the next form.

    What is not given is as in the whole trial. The learning rate keeps the schedule of the whole trial
    (`schedule.horizon`), so that a proxy of fewer epochs is its beginning.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Fewer epochs."""
    subset: SubsetConfig | None = None
    """Fewer training images, as `data.subset`."""
    image_size: Annotated[int, Field(ge=1)] | None = None
    """Smaller images: `data.image_size`, and `views.size` where the recipe has one."""
    promote: int = Field(5, ge=1)
    """How many of the best are run in the next form."""

    @model_validator(mode="after")
    def _cheaper(self) -> ProxyConfig:
        if self.epochs is None and self.subset is None and self.image_size is None:
            raise ValueError("give epochs, subset or image_size: nothing makes this proxy cheaper")
        return self


class BudgetConfig(Config):
    """What a sweep may use, over all its starts; null is no limit.

    All trials count, with attempts that died and with processes that are held while they wait. When one
    limit is reached, trials save and stop within a report, and the same command goes on once it is raised.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of all trials together."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Wall-clock hours."""
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None
    """GPUs held, times hours."""
    money: Annotated[float, Field(gt=0.0)] | None = None
    """In the currency of the prices."""


class PricesConfig(Config):
    """What an hour of each resource that trials hold costs."""

    gpu_hour: float = Field(0.0, ge=0.0)
    """One GPU for an hour."""
    cpu_hour: float = Field(0.0, ge=0.0)
    """One CPU for an hour."""
    currency: str = "USD"
    """Its name, for people."""


class NoiseConfig(Config):
    """How much of a difference between trials is luck."""

    seeds: int = Field(3, ge=1)
    """Seeds that the first prior is run with, and in the end the chosen configuration; 1 measures nothing."""
    best_seeds: Annotated[int, Field(ge=1)] | None = None
    """Seeds that the chosen configuration is run with, where not `seeds`."""
    deviations: float = Field(2.0, ge=0.0)
    """Standard deviations between seeds within which a trial is as good as the best."""


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
    objective: tuple[ObjectiveConfig, ...] = Field((ObjectiveConfig(),), min_length=1)
    """What is optimised: one metric, or a list of them. The first names the best trial."""
    search: dict[str, Domain]
    """Searched keys of the run's config (`optimizer.lr`), or names of your own that `tied` uses, and their
    domains."""
    tied: dict[str, ExpressionText] = Field(default_factory=dict)
    """Keys that follow from others: expressions, such as `method.w_size: factor * method.projector.out`."""
    constraints: tuple[ExpressionText, ...] = ()
    """Expressions over config keys that must hold, such as `method.w_size > backbone.width`."""
    priors: tuple[dict[str, Scalar], ...] = ({},)
    """Configurations to run first: values of searched keys. Keys left out have the recipe's values, so that
    `{}` is the recipe itself."""
    sampler: SamplerConfig = Field(default_factory=TPEConfig)
    """Who suggests."""
    stopping: StoppingConfig = Field(default_factory=StoppingConfig)
    """Who stops early."""
    stop_on: str | None = None
    """Which objective's metric stopping compares, where there are several; the first when not given."""
    trials: int = Field(16, ge=1)
    """Configurations in all. Further seeds of one, and promotions from a proxy, come on top."""
    concurrent: Annotated[int, Field(ge=1)] | None = None
    """Trials at a time; as many as the cluster holds when not given."""
    deterministic: bool = False
    """Whether trial n knows exactly of trials up to n - `concurrent`, waiting for them, so that the sweep
    comes out the same however fast its trials are and however often it is cut off."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of a trial that is not stopped; the recipe's `train.epochs` when not given."""
    proxy: tuple[ProxyConfig, ...] = ()
    """One cheaper form of the trials, or several, from the cheapest on."""
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """What the sweep may use."""
    prices: PricesConfig = Field(default_factory=PricesConfig)
    """What it costs; needed by `budget.money`."""
    noise: NoiseConfig = Field(default_factory=NoiseConfig)
    """How luck is measured."""
    attempts: int = Field(3, ge=1)
    """How often a trial whose process dies is started before it counts as failed."""
    warm_spare: bool = True
    """Keep one more process, with everything imported, to take over at once when a trial's process dies."""
    ledger: str | None = None
    """Where the study is kept: a database URL; a journal file in the sweep's directory when not given."""

    @property
    def target(self) -> ObjectiveConfig:
        """The objective that names the best trial."""
        return self.objective[0]

    @property
    def judged(self) -> ObjectiveConfig:
        """The objective that stopping compares."""
        return next((one for one in self.objective if one.metric == self.stop_on), self.target)

    @field_validator("base", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("objective", "proxy", mode="before")
    @classmethod
    def _one_or_list(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("ledger")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value:
            raise ValueError(
                "expected a database URL, such as postgresql://user@host/raysl; leave it out for a file"
            )
        return value

    @model_validator(mode="after")
    def _agrees(self) -> SpaceConfig:
        """Refuse what does not go together, all of it at once, each mistake by its key."""
        errors: list[InitErrorDetails] = [
            {"type": PydanticCustomError("value_error", "{told}", {"told": told}), "loc": key, "input": {}}
            for key, told in [*_wrong_keys(self), *_wrong_parts(self)]
        ]
        if errors:
            raise ValidationError.from_exception_data("space", errors)
        return self


_Mistake = tuple[tuple[str | int, ...], str]
"""Where, and what is wrong there."""


def _wrong_keys(space: SpaceConfig) -> Iterator[_Mistake]:
    seen: set[str] = set()
    fixed = {key for key, _ in leaves(space.overrides)}
    for key, domain in space.search.items():
        for taken, what in ((fixed, "overridden"), (set(space.tied), "tied")):
            if key in taken:
                yield ("search", key), f"both searched and {what}; keep one"
        if (why := _shared(key)) is not None:
            yield ("search", key), f"cannot be searched: {why}"
        for other in domain.when:
            if other in space.search and other not in seen:
                yield ("search", key), f"its condition names {other}, which must come before it in the file"
        seen.add(key)
    for key, text in space.tied.items():
        if key in fixed and key not in Expression(text).names:
            yield ("tied", key), "both tied and overridden; keep one"
        if (why := _shared(key)) is not None:
            yield ("tied", key), f"cannot be tied: {why}"
    for number, prior in enumerate(space.priors):
        for key in prior:
            if key not in space.search:
                yield ("priors", number, key), f"{key} is not searched; drop it there"


def _wrong_parts(space: SpaceConfig) -> Iterator[_Mistake]:
    metrics = [one.metric for one in space.objective]
    if not space.search:
        yield ("search",), "nothing is searched; give a key and its domain"
    if len(set(metrics)) < len(metrics):
        yield ("objective",), f"names {', '.join(metrics)}; each metric once"
    if space.stop_on is not None and space.stop_on not in metrics:
        yield ("stop_on",), f"{space.stop_on!r}: expected one of objective: {', '.join(metrics)}"
    if space.deterministic and space.concurrent is None:
        yield ("deterministic",), "needs concurrent, because how many trials run at a time must not vary"
    if space.budget.money is not None and not (space.prices.gpu_hour or space.prices.cpu_hour):
        yield ("budget", "money"), "needs prices.gpu_hour or prices.cpu_hour"


def _shared(key: str) -> str | None:
    """Return why all trials share a key, or None where they need not."""
    return next((why for part, why in _NOT_SEARCHED.items() if f"{key}.".startswith(f"{part}.")), None)
