"""The search spaces that come with raysl: they fit their recipes, and what is drawn can be trained."""

from __future__ import annotations

import math
import random
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from raysl import methods
from raysl.config import SEARCH_SPACES, difference
from raysl.errors import InputError
from raysl.methods.base import Pixels, Plan
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.train.config import RunConfig
from raysl.tune.planning.check import check_stopping
from raysl.tune.planning.plan import check_priors
from raysl.tune.spaces.domains import CategoricalDomain, Domain, IntDomain, Scalar
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig
from raysl.tune.spaces.space_file import load_space

NAMES = [name for name in SEARCH_SPACES.names() if name != "quickstart"]
SECTION = (Path(__file__).parents[2] / "docs/SWEEPS.md").read_text().partition("## Samplers")[0]
DRAWS = 50


@cache
def built(name: str) -> Space:
    return Space(load_space(name))


def value(domain: Domain, chance: random.Random) -> Scalar:
    if isinstance(domain, CategoricalDomain):
        return chance.choice(domain.choices)
    if isinstance(domain, IntDomain):
        return chance.randint(domain.low, domain.high)
    if domain.log:
        return math.exp(chance.uniform(math.log(domain.low), math.log(domain.high)))
    return chance.uniform(domain.low, domain.high)


@cache
def drawn(name: str) -> tuple[dict[str, Scalar], ...]:
    """Return parameters drawn at random, as a sampler does without looking at constraints."""
    chance, space, many = random.Random(name), built(name), []
    for _ in range(DRAWS):
        params = dict[str, Scalar]()
        for key, domain in space.config.search.items():
            if space.is_active(domain, params):
                params[key] = value(domain, chance)
        many.append(params)
    return tuple(many)


@cache
def refusals(name: str) -> tuple[str | None, ...]:
    return tuple(map(built(name).refusal, drawn(name)))


def accepted(name: str) -> list[dict[str, Scalar]]:
    return [params for params, why in zip(drawn(name), refusals(name), strict=True) if why is None]


def plain(config: RunConfig) -> Any:
    return config.to_dict()


@pytest.mark.parametrize("method", methods.method_names())
def test_a_method_has_a_space_that_needs_no_data_and_one_of_its_papers_size(method: str) -> None:
    own = [built(name) for name in NAMES if "method.name" not in built(name).config.search]
    bases = [space.base for space in own if space.base.method.name == method]
    assert [base.data.source == "digits" for base in bases] == [True, False]
    assert len(built(method).config.search) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_is_the_first_prior(name: str) -> None:
    space = built(name)
    priors = [space.prior(number) for number in range(len(space.config.priors))]
    assert priors
    for params in priors:
        assert space.refusal(params) is None
    changed = difference(plain(space.base), plain(space.run_config(priors[0])))
    # These two are the recipe's in other words: the rule for beta with its result, and 10 epochs of 100.
    reworded = ("method.beta: None -> 0.0", "method.lamda_warmup: 10 -> 10%")
    assert [line for line in changed if not line.startswith(reworded)] == []


@pytest.mark.parametrize("name", NAMES)
def test_most_of_what_is_drawn_can_be_a_trial(name: str) -> None:
    assert len(accepted(name)) > 0.5 * DRAWS
    # What is refused breaks a constraint, and not the bounds of a key.
    assert all(why is None or why.startswith("breaks ") for why in refusals(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_measures_luck_and_every_rung(name: str) -> None:
    space = built(name)
    assert space.config.noise.seeds == 3
    assert check_stopping(space).startswith("successive_halving")
    assert space.epochs >= 3 * space.config.stopping.min_epochs


@pytest.mark.parametrize("name", [name for name in NAMES if built(name).base.data.source == "digits"])
def test_what_is_drawn_can_be_built(name: str) -> None:
    pixels = Pixels((0.3,), (0.4,))
    for params in [*accepted(name)[:4], *map(built(name).prior, range(len(built(name).config.priors)))]:
        run = built(name).run_config(params)
        plan = Plan(run.train.batch_size, 7, 84, pixels=pixels, image_size=(8, 8))
        backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
        assert methods.build_method(run.method, backbone, plan).describe() is not None


@pytest.mark.parametrize("name", NAMES)
def test_views_follow_crop_min_and_jitter(name: str) -> None:
    space = built(name)
    if "crop_min" not in space.variables:
        assert space.base.views.crop is None
        return
    before = space.base.views
    jitter = {"jitter": 0.5} if "jitter" in space.variables else {}
    view = space.run_config({**space.prior(0), "crop_min": 0.5, **jitter}).views
    assert before.jitter
    assert before.crop
    assert view.crop
    assert view.jitter
    assert view.crop.scales()[0] == (0.5, 1.0)
    for strength in ("brightness", "contrast", "saturation", "hue"):
        assert getattr(view.jitter, strength) == jitter.get("jitter", 1.0) * getattr(before.jitter, strength)
    # Everything else stays the preset's.
    assert view.crop.model_copy(update={"scale": before.crop.scale}) == before.crop
    assert (view.order, view.jitter.p, view.flip, view.blur) == (
        before.order,
        before.jitter.p,
        before.flip,
        before.blur,
    )


def method_of(name: str, **params: Scalar) -> Any:
    """Return a method's values at the first prior, with some parameters changed."""
    changes = {key.replace("__", "."): value for key, value in params.items()}
    return plain(built(name).run_config({**built(name).prior(0), **changes}))["method"]


def test_eps_of_mec_follows_the_embedding() -> None:
    assert method_of("mec_cifar10", eps_per_d=0.125, method__projector__out=512)["eps"] == 64.0


@pytest.mark.parametrize("name", ["w_mse", "w_mse_cifar10"])
def test_w_mse_whitens_more_rows_than_dimensions_in_parts_of_the_batch(name: str) -> None:
    for params in accepted(name):
        run = plain(built(name).run_config(params))
        method = run["method"]
        assert method["w_size"] in (2 * method["projector"]["out"], 4 * method["projector"]["out"])
        assert run["train"]["batch_size"] % method["w_size"] == 0
    assert {params["method.projector.out"] for params in accepted(name)} == set(
        built(name).config.search["method.projector.out"].ends()
    )


@pytest.mark.parametrize("name", ["cw_rgp", "cw_rgp_cifar10"])
def test_cw_rgp_has_more_channels_in_a_group_than_rows(name: str) -> None:
    for params in accepted(name):
        method = plain(built(name).run_config(params))["method"]
        assert method["projector"]["out"] // method["groups"] > method["w_size"]


def test_betas_factor_multiplies_the_authors_rule() -> None:
    space = built("intl")
    run = space.run_config({**space.prior(0), "beta_factor": 2.0, "train.batch_size": 64})
    assert plain(run)["method"]["beta"] == pytest.approx(2 * 0.01 * (6 - 3))


@pytest.mark.parametrize("name", ["byol", "matrix_ssl", "mec", "intl_m"])
def test_momentum_is_searched_by_its_distance_from_one(name: str) -> None:
    assert method_of(name, one_minus_momentum=0.25)["momentum"] == 0.75


def test_mv_mr_is_given_the_representations_and_the_views_for_them() -> None:
    space = built("mv_mr")
    off = dict.fromkeys(("scattering", "augmented", "hog"), False)
    run = space.run_config({**space.prior(0), **off, "dct": True})
    assert plain(run)["method"]["representations"] == ["pixels", "local_std", "dct"]
    assert run.views.count == 1


def test_conditional_keys_are_left_out_where_they_mean_nothing() -> None:
    warmed = {bool(params["method.lamda_warmup"]) for params in drawn("mec")}
    assert warmed == {True, False}
    for params in drawn("mec"):
        assert ("method.lamda_warmup_factor" in params) == bool(params["method.lamda_warmup"])


def test_ties_and_constraints_are_asked_of_trials_that_have_their_keys() -> None:
    space = built("methods_cifar10")
    drawn_of = {
        name: [params for params in drawn("methods_cifar10") if params["method.name"] == name]
        for name in ("matrix_ssl", "w_mse", "mec")
    }
    assert all(drawn_of.values())
    for params in [*drawn_of["matrix_ssl"], *drawn_of["mec"]]:
        assert space.refusal(params) is None
        momentum = plain(space.run_config(params))["method"]["momentum"]
        assert momentum == pytest.approx(1 - float(params["one_minus_momentum"]))  # type: ignore[arg-type]
    tight = {**drawn_of["w_mse"][0], "method.w_size": 128, "method.projector.out": 128}
    assert space.refusal(tight) == "breaks 'method.w_size >= 2 * method.projector.out'"
    assert "momentum" not in plain(space.run_config(tight))["method"]


def test_a_tie_to_an_unknown_name_is_not_taken_for_one_of_another_condition() -> None:
    wrong = load_space("methods_cifar10", ["tied={method.momentum: 1 - one_minus_momentun}"])
    with pytest.raises(InputError, match="one_minus_momentun"):
        Space(wrong)


def test_a_tie_that_cannot_be_computed_is_told_once() -> None:
    wrong = load_space("intl", ["tied={method.beta: beta_factor * log2(crop_min - 1)}"])
    with pytest.raises(InputError, match=r"tied.method.beta .*log2 of -0.9: expected a number above 0"):
        Space(wrong)
    broken = load_space("intl", ["tied={method.beta: beta_factor * method.projectr.out}"])
    with pytest.raises(InputError, match=r"no key 'method.projectr.out'; did you mean") as caught:
        Space(broken)
    assert sum("projectr" in line for line in str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("method", ["matrix_ssl", "mec", "simclr", "w_mse"])
def test_the_larger_space_fits_the_recipe_for_cpus(method: str) -> None:
    less = ["epochs=27", "stopping.min_epochs=3", "diagnostics.every=1", "data.source=here"]
    space = Space(load_space(f"{method}_cifar10", [f"base=cifar10/{method}_small", *less]))
    check_priors(space)
    assert check_stopping(space).startswith("successive_halving at epochs 3, 9;")


def test_the_documented_example_does_what_is_said_of_it(tmp_path: Path) -> None:
    path = tmp_path / "my_space.yaml"
    path.write_text(textwrap.dedent(SECTION.partition("    # my_space.yaml\n")[2].partition("\n\n")[0]))
    space = Space(load_space(path))
    check_priors(space)
    adam, sgd = space.prior(0), space.prior(1)
    assert ("optimizer.momentum" in adam, "optimizer.momentum" in sgd) == (False, True)
    run = space.run_config({**adam, "rows_per_dimension": 4, "crop_min": 0.3})
    assert run.views.crop
    assert plain(run)["method"]["w_size"] == 256
    assert run.views.crop.scale == (0.3, 1.0)
    assert run.views.crop.interpolation == "bicubic"
    wide = {**adam, "rows_per_dimension": 4, "method.projector.out": 128}
    assert space.refusal(wide) == "breaks 'train.batch_size % method.w_size == 0'"


def test_the_documentation_names_every_key_and_every_space() -> None:
    rows = [line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `")]
    named = {word for row in rows for word in row.split("`")[1::2]}
    assert set(SpaceConfig.model_fields) | set(methods.method_names()) <= named
