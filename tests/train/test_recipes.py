"""Every recipe and search space that comes with raysl."""

from __future__ import annotations

import pytest

from raysl.config import RECIPES, SEARCH_SPACES, load
from raysl.methods import config_class, method_names
from raysl.methods.cw_rgp import Config as CWRGPConfig
from raysl.train.config import RunConfig
from raysl.tune.spaces.space_file import load_space

PROTOCOLS = {
    "knn/top1",
    "linear-cached/top1",
    "linear-lars/top1",
    "linear-sgd/top1",
    "online/top1",
    "online/top5",
}


@pytest.mark.parametrize("name", RECIPES.names())
def test_a_recipe_is_read_and_says_what_is_published(name: str) -> None:
    run = load(RunConfig, [name])
    assert run.published == "ours" or (run.published and {p.metric for p in run.published} <= PROTOCOLS)
    assert run.data.source == ("digits" if name.startswith("digits/") else f"data/{name.partition('/')[0]}")
    # Statistics are the published ones wherever a number is.
    assert run.published == "ours" or run.data.std is not None


@pytest.mark.parametrize("method", method_names())
def test_every_method_has_a_small_recipe_and_a_search_space_on_it(method: str) -> None:
    assert load(RunConfig, [f"digits/{method}"]).method.name == method
    space = load_space(method)
    assert space.base == (f"digits/{method}",)
    assert any(key.startswith("method.") for key in space.search)
    for key in space.search:
        if key.startswith("method."):
            assert key.split(".")[1] in config_class(method).model_fields
    found = {name.partition("_cifar")[0] for name in SEARCH_SPACES.names()}
    assert found == {*method_names(), "methods", "quickstart"}


def test_whitening_is_repeated_for_cw_rgp_with_two_views_on_cifar10_only() -> None:
    """As the authors' scripts have it, whose defaults are a batch of 512 and one iteration."""
    for data, batch, iterations in (
        ("cifar10", 256, 4),
        ("cifar100", 512, 1),
        ("stl10", 512, 1),
        ("tiny_imagenet", 512, 1),
    ):
        run = load(RunConfig, [f"{data}/cw_rgp"])
        assert isinstance(run.method, CWRGPConfig)
        assert (run.train.batch_size, run.method.w_iter) == (batch, iterations)
