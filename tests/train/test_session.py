"""What a method may ask of training, and what a run says of others' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from raysl.config import load
from raysl.data.decoded import Decoded
from raysl.errors import InputError
from raysl.methods import base
from raysl.methods.base import LossReport, Plan, Step
from raysl.models.backbones import Backbone
from raysl.train.config import Published, RunConfig
from raysl.train.session import Session
from tests.train.made import config, digits


class Asking(base.MethodConfig):
    """Asks for all that training offers."""

    name: Literal["asking"] = "asking"
    plain_views: ClassVar[int] = 1


class Method(base.Method):
    def __init__(self, config: Asking, backbone: Backbone, plan: Plan) -> None:
        super().__init__()
        self.backbone = backbone
        self.fixed = nn.Linear(backbone.features, 2)
        self.plan = plan
        self.seen: list[Any] = []

    def before_step(self, step: Step) -> dict[str, float]:
        self.seen.append(("before", step.index))
        return {"asked": 3.0}

    def forward(self, views: Sequence[Tensor], step: Step) -> LossReport:
        self.seen.append(("forward", views))
        embeddings = self.fixed(self.backbone(views[0]) + self.backbone(views[1]))
        return LossReport(embeddings.square().mean(), {}, embeddings.detach())

    def fixed_lr_modules(self) -> list[nn.Module]:
        return [self.fixed]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr("raysl.methods.method_class", lambda config: Method)
    asked = config(
        "schedule.warmup=2", "optimizer.lr_scaling=linear", "optimizer.weight_decay=0.1",
        "optimizer.weight_decay_final=0.2", "optimizer.decay_one_dimensional=false",
    )  # fmt: skip
    return Session(asked.model_copy(update={"method": Asking()}), digits(), torch.device("cpu"))


def test_the_plain_view_comes_first_and_is_the_evaluations(session: Session) -> None:
    batch = next(session.feed.epoch(0))
    session.step(batch, 0)
    assert isinstance(session.method, Method)
    (_, first), (_, views) = session.method.seen
    assert first == 0
    assert len(views) == 3
    train = digits().train
    assert isinstance(train, Decoded)
    images = torch.from_numpy(train.rows(batch.indices.numpy()).images)
    assert torch.equal(views[0], session.views.plain(images))


def test_before_step_comes_before_the_forward_pass_and_is_logged(session: Session) -> None:
    _, scalars = session.step(next(session.feed.epoch(0)), 5)
    assert isinstance(session.method, Method)
    assert [what for what, _ in session.method.seen] == ["before", "forward"]
    assert session.method.seen[0] == ("before", 5)
    assert scalars["asked"] == 3.0


def test_the_plan_tells_how_pixels_were_made(session: Session) -> None:
    assert isinstance(session.method, Method)
    plan = session.method.plan
    normalization = session.views.normalization
    assert plan.pixels is not None
    assert (plan.pixels.mean, plan.pixels.std) == (tuple(normalization.mean), tuple(normalization.std))
    assert plan.image_size == (8, 8)


def test_a_fixed_rate_is_the_peak_and_decay_follows_its_schedule(session: Session) -> None:
    session.step(next(session.feed.epoch(0)), 1)
    found = {
        (group["fixed_lr"], group["decays"]): (group["lr"], group["weight_decay"])
        for group in session.optimizer.param_groups
    }
    peak = 0.1 * 32 / 256
    assert {fixed: lr for (fixed, _), (lr, _) in found.items()} == pytest.approx(
        {True: peak, False: peak * 2 / 8}
    )
    decays = {decay for (_, decays), (_, decay) in found.items() if decays}
    assert len(decays) == 1
    assert 0.1 < decays.pop() < 0.11
    assert {decay for (_, decays), (_, decay) in found.items() if not decays} == {0.0}


ENTRY = "{metric: linear-cached/top1, value: 91.55, source: arXiv 2007.06346}"


def test_published_is_a_list_one_entry_or_ours() -> None:
    one = config(f"published={ENTRY}")
    assert one.published == (Published(metric="linear-cached/top1", value=91.55, source="arXiv 2007.06346"),)
    assert config(f"published=[{ENTRY}]") == one
    assert RunConfig.model_validate(one.to_dict()) == one
    assert config("published=ours").published == "ours"
    assert load(RunConfig, ["digits/simclr"], [f"published={ENTRY}"]).published == one.published
    assert config().published is None
    assert one.identity() == config().identity()


@pytest.mark.parametrize(
    "value", ["theirs", "{metric: top1, value: 90, source: x}", "{metric: knn/top1, value: 190, source: x}"]
)
def test_a_published_number_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="published"):
        config(f"published={value}")
