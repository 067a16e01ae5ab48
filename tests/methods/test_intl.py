"""What is INTL's own: the weight of the trace loss, and views of several sizes."""

from __future__ import annotations

import pytest
import torch

from raysl.errors import InputError
from raysl.methods.base import Plan, Scaling, Step
from raysl.methods.intl import Config, Method
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig

PLAN = Plan(batch_size=32, steps_per_epoch=5, horizon_steps=50)


def build(plan: Plan = PLAN, **fields: object) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    head = HeadConfig(layers=2, width=16, out=64)
    return Method(Config.model_validate({"projector": head, **fields}), backbone, plan).double()


def views(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(32, 1, size, size, generator=generator, dtype=torch.float64) for size in sizes]


def test_beta_follows_the_global_batch_or_the_embedding_unless_given() -> None:
    assert build().beta == pytest.approx(0.02)
    assert build(axis=1).beta == pytest.approx(0.03)
    assert build(beta=0.5).beta == 0.5
    assert build().describe() == ["trace loss weight beta 0.02 (0.01 (log2 32 - 3), from the global batch)"]
    told = build(Plan(128, 5, 50), beta=0.5).describe()
    assert told[0] == "trace loss weight beta 0.5 (as given)"
    assert "has 63" in told[1]


def test_a_batch_for_which_the_rule_gives_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"method\.beta: .* a global batch of 4 images; give a number"):
        build(Plan(4, 5, 50))
    assert build(Plan(4, 5, 50), beta=0.1).beta == 0.1


def test_the_total_is_made_of_its_parts() -> None:
    method = build(beta=0.3)
    report = method(views(8, 8, 8), Step(1, PLAN, 0))
    expected = report.parts["mse"] + 0.3 * report.parts["trace_loss"]
    torch.testing.assert_close(report.loss, expected)


def test_the_condition_is_looked_at_once_an_epoch() -> None:
    told = ["condition" in build()(views(8, 8), Step(index, PLAN, 0)).parts for index in range(6)]
    assert told == [True, False, False, False, False, True]


def test_views_of_several_sizes_train_the_same_encoder() -> None:
    method = build()
    loss = method(views(12, 12, 8, 6), Step(1, PLAN, 0)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in method.backbone.parameters())


def test_another_batch_rescales_beta_and_names_an_embedding_that_is_too_small() -> None:
    scaling = Scaling((256, 4096), (1000, 100), (224, 224))
    (derived,) = Config().rescale(scaling)
    assert (derived.key, derived.label, derived.derived) == ("method.beta", "rescaled", True)
    assert (derived.old, derived.new) == (pytest.approx(0.05), pytest.approx(0.09))
    given, small = Config(beta=0.1, projector=HeadConfig(layers=3, out=2048)).rescale(scaling)
    assert (given.new, given.derived) == (pytest.approx(0.18), False)
    assert (small.key, small.old, small.label) == ("method.projector.out", 2048, "unsafe")
    assert Config(axis=1).rescale(scaling) == []
    (kept,) = Config(beta=0.1).rescale(Scaling((8, 64), (10, 10), (8, 8)))
    assert (kept.key, kept.old, kept.new, kept.label) == ("method.beta", 0.1, 0.1, "unsafe")


def test_the_defaults_are_the_published_runs() -> None:
    config = Config()
    assert (config.axis, config.iterations, config.beta) == (0, 4, None)
    assert (config.projector.layers, config.projector.width, config.projector.out) == (3, 8192, 8192)
