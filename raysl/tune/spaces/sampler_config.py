"""Who suggests, as a search-space file says it: `sampler: {name: gp, seed: 0}`, or `sampler: gp`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from raysl.config import Config, nearest

_STARTUP = "Trials that are suggested at random before the sampler looks at what is known."
_RANDOM_SHARE = (
    "Share of the later trials that are suggested at random all the same, so that a lucky trial early on "
    "does not hold the search where it was (as Falkner et al., BOHB, 2018, section 3)."
)


class _Common(Config):
    seed: int = Field(0, ge=0)
    """Seed of all suggestions."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of Optuna's sampler of this name, where it has any that are plain values."""


class TPEConfig(_Common):
    """Tree-structured Parzen estimator: imitates the good trials. The one for conditions and for pruning."""

    name: Literal["tpe"] = "tpe"
    """`tpe`."""
    n_startup_trials: int = Field(10, ge=0, description=_STARTUP)
    random_share: float = Field(1 / 3, ge=0.0, le=1.0, description=_RANDOM_SHARE)
    n_ei_candidates: int = Field(24, ge=1)
    """Draws from the good trials' neighbourhood, of which the most promising is taken."""
    multivariate: bool = False
    """Whether keys are drawn together, so that what depends on each other stays together. Off, because on a
    recorded sweep it came no sooner to the best and was more often stuck (docs/BENCHMARKS.md); what is known
    to hang together is better tied."""
    group: bool = True
    """Whether keys under different conditions are modelled apart; only with `multivariate`."""
    constant_liar: bool = True
    """Whether running trials count as bad, so that trials at a time do not crowd."""


class GPConfig(_Common):
    """Gaussian process with expected improvement: the thriftiest for few numeric keys and full trials."""

    name: Literal["gp"] = "gp"
    """`gp`."""
    n_startup_trials: int = Field(10, ge=1, description=_STARTUP)
    random_share: float = Field(1 / 3, ge=0.0, le=1.0, description=_RANDOM_SHARE)
    deterministic_objective: bool = False
    """Whether a configuration always comes out the same, so that no noise is to be fitted."""


class CMAESConfig(_Common):
    """Covariance matrix adaptation: moves a normal distribution over numeric keys; wants many trials."""

    name: Literal["cmaes"] = "cmaes"
    """`cmaes`."""
    population_size: Annotated[int, Field(ge=4)] | None = None
    """Trials of a generation; 4 + 3 ln(numeric keys), rounded down, when not given."""
    sigma: float = Field(1 / 6, gt=0.0, le=1.0)
    """First standard deviation, as a share of each domain's width. The first mean is the domains' middle."""
    separable: bool = False
    """Whether only variances are adapted: faster to learn in many dimensions, blind to dependence."""
    lr_adapt: bool = False
    """Whether its learning rate follows the noise of the objective."""

    @model_validator(mode="after")
    def _one_variant(self) -> CMAESConfig:
        if self.separable and self.lr_adapt:
            raise ValueError("separable and lr_adapt exclude each other; leave one out")
        return self


class NSGA2Config(_Common):
    """Genetic algorithm with non-dominated sorting: made for several objectives and many trials."""

    name: Literal["nsga2"] = "nsga2"
    """`nsga2`."""
    population_size: int = Field(20, ge=3)
    """Trials of a generation; the first generation is random."""
    crossover: Literal["uniform", "blx_alpha", "sbx", "vsbx", "undx", "spx"] = "uniform"
    """How two or three parents make a child."""
    crossover_prob: float = Field(0.9, ge=0.0, le=1.0)
    """Probability of a crossover; otherwise a child is a copy of one parent, before mutation."""
    swapping_prob: float = Field(0.5, ge=0.0, le=1.0)
    """Probability with which each key is swapped between parents."""
    mutation_prob: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Probability with which each key is drawn anew; one over the number of keys when not given."""


class QMCConfig(_Common):
    """Low-discrepancy sequence over all keys, conditional ones too: more even than chance."""

    name: Literal["qmc"] = "qmc"
    """`qmc`."""
    qmc_type: Literal["sobol", "halton"] = "sobol"
    """Which sequence."""
    scramble: bool = True
    """Whether the sequence is randomised by the seed; without, it begins at the domains' low ends."""


class RandomConfig(_Common):
    """Every trial by chance."""

    name: Literal["random"] = "random"
    """`random`."""


class GridConfig(_Common):
    """Every combination once, in an order shuffled by the seed; needs finite domains."""

    name: Literal["grid"] = "grid"
    """`grid`."""


_NAMES = {"tpe", "gp", "cmaes", "nsga2", "qmc", "random", "grid"}


def _spelled_out(value: Any) -> Any:
    """Read `gp` as `{name: gp}`, no name as `tpe`, and refuse a name that is none."""
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict):
        value = {"name": "tpe", **value}
        if value["name"] not in _NAMES:
            raise ValueError(
                f"name = {value['name']!r}: expected one of {', '.join(sorted(_NAMES))}; "
                f"{nearest(str(value['name']), _NAMES)}"
            )
    return value


def _branch(value: Any) -> str | None:
    """Return the branch of the union; the hyphen keeps it out of the keys that messages name."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return None if name is None else f"sampler-{name}"


SamplerConfig = Annotated[
    Annotated[TPEConfig, Tag("sampler-tpe")]
    | Annotated[GPConfig, Tag("sampler-gp")]
    | Annotated[CMAESConfig, Tag("sampler-cmaes")]
    | Annotated[NSGA2Config, Tag("sampler-nsga2")]
    | Annotated[QMCConfig, Tag("sampler-qmc")]
    | Annotated[RandomConfig, Tag("sampler-random")]
    | Annotated[GridConfig, Tag("sampler-grid")],
    Discriminator(
        _branch,
        custom_error_type="sampler",
        custom_error_message="expected a sampler's name, or a mapping with one",
    ),
    BeforeValidator(_spelled_out),
]
