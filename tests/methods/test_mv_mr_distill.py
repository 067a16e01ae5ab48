"""What is the distillation's own: a teacher that is asked and left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from raysl.losses.mv_mr import mv_mr_loss
from raysl.methods.base import Pixels, Plan, Step
from raysl.methods.mv_mr_distill import Config, Method
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.heads import HeadConfig
from raysl.models.representations import RepresentationOptions, represent
from raysl.train.config import OptimizerConfig
from raysl.train.optimizers import build_optimizer

PLAN = Plan(10, steps_per_epoch=5, horizon_steps=50, pixels=Pixels((0.3,), (0.4,)), image_size=(8, 8))
PIXELS = {"name": "representation", "representation": "pixels", "mean": [0.5], "std": [0.1]}


def build(**fields: object) -> Method:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="small_cnn", width=2), image_channels=1)
    values = {"projector": HeadConfig(layers=2, width=16, out=8), "teacher": PIXELS, **fields}
    return Method(Config.model_validate(values), backbone, PLAN).double()


def views() -> list[Tensor]:
    images = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [images, images.flip(3) + 0.1]


@pytest.mark.parametrize("exact", [False, True])
def test_the_loss_compares_with_the_teachers_features_of_the_plain_image(exact: bool) -> None:
    method = build(teacher_weight=0.7, reference_exact=exact)
    plain, view = views()
    made = method([plain, view], Step(1, PLAN, 0))
    z, z_o = (method.projector(method.backbone(x)) for x in (view, plain))
    raw = plain * 0.4 + 0.3
    shown = plain if exact else (raw - 0.5) / 0.1
    features = represent("pixels", shown, RepresentationOptions()) / 32
    expected = mv_mr_loss(z_o, z, [("teacher", features)], representations_weight=0.7)
    # The statistics are kept in float32.
    torch.testing.assert_close(made.loss, expected.total, rtol=1e-6, atol=0)
    assert set(made.parts) == {"mse", "std_shortfall", "dcor_views", "dcor_teacher", "at_floor"}


SCRIPT = """
import torch
def make():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 5))
"""


def test_a_teachers_weights_are_neither_stored_nor_trained(tmp_path: Path) -> None:
    (tmp_path / "teacher.py").write_text(SCRIPT)
    method = build(teacher={"name": "file", "path": f"{tmp_path}/teacher.py:make"})
    mine = {id(tensor) for tensor in method.teacher.network.state_dict(keep_vars=True).values()}
    assert len(mine) == 7
    optimizer = build_optimizer(OptimizerConfig(), method, 0.1)
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not mine & (moved | {id(tensor) for tensor in method.state_dict(keep_vars=True).values()})
    before = [tensor.clone() for tensor in method.teacher.network.state_dict().values()]
    method.train()
    method(views(), Step(1, PLAN, 0)).loss.backward()
    optimizer.step()
    after = method.teacher.network.state_dict().values()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert before[-1].dtype == torch.float64  # it was cast with the method


def test_the_default_teacher_is_the_authors() -> None:
    teacher = Config().teacher
    assert (teacher.name, teacher.model, teacher.pretrained) == ("clip", "ViT-B-16", "laion400m_e32")
