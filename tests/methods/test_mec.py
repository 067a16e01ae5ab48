"""What is MEC's own: lamda_inv, its warm-up, and how both follow the batch."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from raysl.losses.mec import mec_loss
from raysl.methods.base import Plan, Scaling, Step
from raysl.methods.mec import Config, Method, lamda_inv, warmed_up
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig

PLAN = Plan(batch_size=32, steps_per_epoch=5, horizon_steps=50)
HEADS = {
    "projector": HeadConfig(layers=2, width=16, out=8, last_bn="plain"),
    "predictor": HeadConfig(width=16),
}


def build(plan: Plan = PLAN, **fields: object) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    return Method(Config.model_validate({**HEADS, "lamda_warmup": 2, **fields}), backbone, plan).double()


def pair() -> list[torch.Tensor]:
    images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [images, images.flip(3)]


def test_the_warm_up_is_a_line_with_both_ends() -> None:
    line = [warmed_up(32.0, step, 10) for step in range(15)]
    np.testing.assert_allclose(line[:10], np.linspace(256.0, 32.0, 10), rtol=1e-14)
    assert line[9:] == [32.0] * 6
    assert warmed_up(32.0, 0, 1) == 256.0
    assert warmed_up(32.0, 1, 1) == 32.0
    assert warmed_up(32.0, 0, 0) == 32.0


def test_lamda_inv_is_that_of_the_authors_run() -> None:
    assert lamda_inv(1024, 2048, 64.0) == 32.0


def test_the_loss_is_taken_at_the_lamda_inv_of_the_step() -> None:
    for index, expected in ((0, 8 * 256.0), (9, 256.0), (30, 256.0)):
        method = build()
        assert method.after_step(Step(index, PLAN, 0))["lamda_inv"] == expected
        teacher = [build().teacher(view) for view in pair()]
        student = [method.predictor(method.projector(method.backbone(view))) for view in pair()]
        loss = build()(pair(), Step(index, PLAN, 0)).loss
        torch.testing.assert_close(
            loss, mec_loss(teacher, student, lamda_inv=expected).total, rtol=1e-12, atol=0
        )


def test_lamda_inv_is_of_the_global_batch() -> None:
    larger = Plan(batch_size=64, steps_per_epoch=5, horizon_steps=50)
    assert build(larger).lamda_inv == 2 * build().lamda_inv == 512.0


def test_scaling_the_batch_keeps_eps_and_rescales_lamda_inv_and_the_momentum() -> None:
    changes = {change.key: change for change in Config().rescale(Scaling((256, 4096), (800, 50), (32, 32)))}
    assert (changes["method.eps"].old, changes["method.eps"].new) == (64.0, 64.0)
    assert changes["method.eps"].label == "transferred"
    assert (changes["lamda_inv"].old, changes["lamda_inv"].new) == (8.0, 128.0)
    assert (changes["lamda_inv"].label, changes["lamda_inv"].derived) == ("rescaled", True)
    assert changes["method.momentum"].new == pytest.approx(0.996**16)
    # Nothing is said where nothing changes, and no number where the embedding's size is the backbone's.
    assert Config().rescale(Scaling((256, 256), (800, 800), (32, 64))) == []
    open_ended = Config(projector=HeadConfig(layers=3)).rescale(Scaling((2, 4), (8, 8), (32, 32)))
    assert [change.new for change in open_ended if change.derived] == ["256 / features"]


def test_the_radius_is_looked_at_once_an_epoch() -> None:
    method = build()
    told = ["taylor_radius" in method(pair(), Step(index, PLAN, 0)).parts for index in range(6)]
    assert told == [True, False, False, False, False, True]


def test_a_series_outside_its_radius_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="raysl"):
        build()(pair(), Step(0, PLAN, 0))
        assert not caplog.records
        method = build(eps=0.01)
        for _ in range(2):
            method(pair(), Step(0, PLAN, 0))
    assert len(caplog.records) == 1
    assert "does not converge; raise method.eps" in caplog.text


def test_the_teacher_follows_along_half_a_cosine() -> None:
    method = build(momentum=0.9)
    parameter = next(method.backbone.parameters())
    teacher = next(method.teacher.network.parameters())
    before = teacher.clone()
    with torch.no_grad():
        parameter.add_(1.0)
    assert method.after_step(Step(0, PLAN, 0))["momentum"] == 0.9
    torch.testing.assert_close(teacher, before + 0.1)
    assert method.after_step(Step(50, PLAN, 0))["momentum"] == 1.0


def test_the_resolved_numbers_are_told() -> None:
    assert build(momentum="10%").describe() == [
        "lamda_inv 2048 at the start, 256 from step 10 on",
        "teacher momentum 0.8, rising to 1 over the horizon",
    ]
    assert build(lamda_warmup=0).describe()[0] == "lamda_inv 256 at the start, 256 from step 0 on"


def test_a_warm_up_cannot_count_back_from_the_end() -> None:
    with pytest.raises(ValueError, match="a warm-up cannot be negative"):
        Config(lamda_warmup=-5)


def test_the_defaults_are_the_authors_run() -> None:
    config = Config()
    assert (config.eps, config.order, config.lamda_warmup, config.lamda_warmup_factor) == (64.0, 4, 10, 8.0)
    assert (config.momentum, config.projector.out, config.predictor.width) == (0.996, 2048, 512)
