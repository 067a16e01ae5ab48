"""What is MV-MR's own: representations of the image and of a further view."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from raysl.config import load
from raysl.errors import InputError
from raysl.losses.mv_mr import mv_mr_loss
from raysl.methods.base import Plan, Step
from raysl.methods.mv_mr import Config, Method
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig
from raysl.models.representations import Representation, RepresentationOptions, represent
from raysl.train.config import RunConfig

PLAN = Plan(batch_size=10, steps_per_epoch=5, horizon_steps=50, image_size=(8, 8))
HEAD = HeadConfig(layers=2, width=16, out=8)


def build(plan: Plan = PLAN, **fields: object) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    return Method(Config.model_validate({"projector": HEAD, **fields}), backbone, plan).double()


def views(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(10, 1, 8, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 10, 1, 8, 8, generator=generator, dtype=torch.float64)
    return [images, *(images + 0.3 * noise[1:])]


def test_the_loss_is_that_of_embeddings_and_representations() -> None:
    names: tuple[Representation, ...] = ("pixels", "hog", "augmented_local_std")
    method = build(representations=names, margin=0.5, std_weight=2.0, representations_weight=0.3)
    plain, view, further = views()
    made = method([plain, view, further], Step(1, PLAN, 0))
    z, z_o = (method.projector(method.backbone(x)) for x in (view, plain))
    shown = {"pixels": plain, "hog": plain, "augmented_local_std": further}
    given = [(name, represent(name, shown[name], RepresentationOptions())) for name in names]
    expected = mv_mr_loss(z_o, z, given, margin=0.5, std_weight=2.0, representations_weight=0.3)
    torch.testing.assert_close(made.loss, expected.total, rtol=1e-12, atol=0)
    assert set(made.parts) == {
        "mse", "std_shortfall", "at_floor",
        "dcor_views", "dcor_pixels", "dcor_hog", "dcor_augmented_local_std",
    }  # fmt: skip
    assert torch.equal(made.parts["dcor_hog"], expected.representations["hog"])
    assert torch.equal(made.embeddings, z)


def test_as_the_authors_the_dependence_is_minimised_and_histograms_are_theirs() -> None:
    ours, theirs = (build(representations=["hog"], reference_exact=exact) for exact in (False, True))
    one, other = (method(views(2), Step(1, PLAN, 0)) for method in (ours, theirs))
    rest = one.loss - (1 - one.parts["dcor_hog"])
    torch.testing.assert_close(other.loss - other.parts["dcor_hog"], rest, rtol=1e-12, atol=0)
    assert abs(float((one.parts["dcor_hog"] - other.parts["dcor_hog"]).detach())) > 1e-3


@pytest.mark.parametrize(
    ("names", "count"), [("[pixels, hog]", 1), ("[pixels, augmented_hog]", 2), ("[augmented]", 2)]
)
def test_views_are_as_many_as_the_representations_need(names: str, count: int) -> None:
    for given in (1, 2):
        overrides = [f"method.representations={names}", f"views.count={given}"]
        if given == count:
            assert load(RunConfig, ["digits/mv_mr"], overrides).views.count == count
        else:
            with pytest.raises(InputError, match=rf"mv_mr takes {count} views?, but views gives {given}"):
                load(RunConfig, ["digits/mv_mr"], overrides)


def test_bad_representations_are_told_before_training() -> None:
    with pytest.raises(InputError, match=r"^method.representations: scattering over 3 octaves needs .* 8x8"):
        build(options={"scattering_scales": 3})
    with pytest.raises(InputError, match="representations has one twice: pixels, hog, pixels"):
        load(RunConfig, ["digits/mv_mr"], ["method.representations=[pixels, hog, pixels]"])


def test_the_sizes_of_representations_are_told() -> None:
    told = (
        "representations, values of an image: pixels 64, scattering 324, augmented 64, hog 24, local_std 64"
    )
    assert build().describe() == [told]
    assert build(Plan(10, 5, 50)).describe() == []


def test_collapse_is_said_once_and_looked_for_once_an_epoch(caplog: pytest.LogCaptureFixture) -> None:
    method = build(scale=1e-9, representations=["pixels"])
    with caplog.at_level(logging.WARNING, logger="raysl"):
        method(views(2), Step(1, PLAN, 0))
        assert not caplog.records
        for index in (5, 10):
            assert float(method(views(2), Step(index, PLAN, 0)).parts["at_floor"]) == 1.0
    assert len(caplog.records) == 1
    assert "method.scale is too small" in caplog.text


def test_the_defaults_are_the_authors() -> None:
    config = Config()
    assert config.representations == ("pixels", "scattering", "augmented", "hog", "local_std")
    assert (config.margin, config.scale, config.projector.out) == (1.0, 1 / 32, 8192)
