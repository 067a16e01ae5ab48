"""Less memory: the same loss with the backbone in slices, and the mean of micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from raysl.errors import InputError
from raysl.methods import matrix_ssl, simclr
from raysl.methods.base import LossReport, Method, Plan, Step
from raysl.models.backbones import Backbone
from raysl.models.heads import HeadConfig
from raysl.train.accumulation import Slices, check_accumulation, mean_report, slice_backbones
from raysl.train.pretrain import prepare
from raysl.train.session import Session
from tests.train.jobs import FEW_STEPS, MICRO, SLICED, Done, take_steps
from tests.train.made import config, digits
from tests.train.test_workers import largest_difference

ROWS = 12
PLAN = Plan(ROWS, steps_per_epoch=5, horizon_steps=50)


class Counted(nn.Sequential):
    """A small network that takes images of any size and remembers how many rows it was given."""

    def __init__(self, *, normalised: bool) -> None:
        norm = nn.BatchNorm2d(4) if normalised else nn.Identity()
        super().__init__(
            nn.Conv2d(1, 4, 3), norm, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.rows: list[int] = []

    def forward(self, input: Tensor) -> Tensor:
        self.rows.append(input.shape[0])
        features: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return features


def images(side: int = 8, rows: int = ROWS) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randn(rows, 1, side, side, generator=generator, dtype=torch.float64)


def method(name: str, *, normalised: bool = False) -> Method:
    torch.manual_seed(0)
    backbone = Backbone(Counted(normalised=normalised), 16, 1)
    head = HeadConfig(layers=2, width=24, out=8)
    if name == "simclr":
        return simclr.Method(simclr.Config(projector=head), backbone, PLAN).double()
    config = matrix_ssl.Config(projector=head, predictor=HeadConfig(width=8))
    return matrix_ssl.Method(config, backbone, PLAN).double()


def step(built: Method, views: Sequence[Tensor]) -> tuple[LossReport, dict[str, Tensor]]:
    report: LossReport = built(views, Step(0, PLAN, seed=3))
    report.loss.backward()  # type: ignore[no-untyped-call]
    return report, {name: p.grad for name, p in built.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["simclr", "matrix_ssl"])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("sides", [(8, 8), (8, 6)])
def test_the_loss_of_slices_is_that_of_the_whole_batch(name: str, count: int, sides: tuple[int, int]) -> None:
    views = [images(side) + number for number, side in enumerate(sides)]
    whole, gradients = step(method(name), views)
    sliced = method(name)
    slice_backbones(sliced, count)
    report, ours = step(sliced, views)
    assert report.loss.item() == pytest.approx(whole.loss.item(), rel=1e-13)
    assert len(gradients) > 4
    assert largest_difference(ours, gradients) < 1e-12


def test_slices_pass_twice_with_gradients_and_once_without() -> None:
    sliced = method("matrix_ssl")
    slice_backbones(sliced, 4)
    step(sliced, [images(), images(6)])
    student, teacher = (part for part in sliced.modules() if isinstance(part, Counted))
    assert student.rows == [3] * 16
    assert teacher.rows == [3] * 8


def test_running_statistics_see_each_slice_once() -> None:
    sliced, straight = Counted(normalised=True).double(), Counted(normalised=True).double()
    straight.load_state_dict(sliced.state_dict())
    held = dict(sliced.named_buffers())
    Slices(3)(sliced, images()).square().sum().backward()  # type: ignore[no-untyped-call]
    for part in range(3):
        straight(images()[part::3])
    assert {name: id(x) for name, x in sliced.named_buffers()} == {name: id(x) for name, x in held.items()}
    for (name, ours), theirs in zip(sliced.named_buffers(), straight.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    assert int(held["1.num_batches_tracked"]) == 3


def test_the_backward_pass_may_be_repeated() -> None:
    network = Counted(normalised=True).double()
    loss = Slices(2)(network, images()).sin().sum()
    parameters = list(network.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert int(dict(network.named_buffers())["1.num_batches_tracked"]) == 2


def test_features_come_back_in_the_order_of_the_images() -> None:
    network = Counted(normalised=False).double()
    torch.testing.assert_close(Slices(4)(network, images()), network(images()))


def test_evaluation_takes_any_number_of_images_at_once() -> None:
    network = Counted(normalised=True).double().eval()
    Slices(4)(network, images(rows=7))
    assert network.rows == [7]
    with pytest.raises(InputError, match=r"train\.accumulation = 4: does not divide the 7 rows"):
        Slices(4)(network.train(), images(rows=7))


@pytest.mark.parametrize("name", ["sliced", "micro"])
def test_accumulation_does_not_depend_on_the_number_of_workers(name: str, done: Done) -> None:
    alone = take_steps(SLICED if name == "sliced" else MICRO, FEW_STEPS)
    first, _ = done.trained(name)
    loss = max(abs(a - b) / abs(a) for a, b in zip(alone.losses, first.losses, strict=True))
    tensors = largest_difference(alone.tensors, first.tensors)
    print(f"\n{name}: loss {loss:.1e}, weights and buffers {tensors:.1e}")
    assert loss < 1e-9
    assert tensors < 1e-9


def test_micro_batches_are_the_mean_of_their_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(MICRO, digits(), torch.device("cpu"))
    assert (session.plan.batch_size, session.method_plan.batch_size) == (32, 8)
    batch = next(session.feed.epoch(0))
    losses, gradients = [], []
    for part in range(4):
        session.method.zero_grad()
        one = session.method([view[part::4] for view in batch.views], Step(0, session.method_plan, 0, part))
        one.loss.backward()
        losses.append(float(one.loss.detach()))
        gradients.append(next(session.method.backbone.parameters()).grad)
    beside = {name: Mock(return_value={}) for name in ("before_step", "after_step")}
    for name, called in beside.items():
        monkeypatch.setattr(session.method, name, called)
    report, _ = session.step(batch, 0)
    # A teacher follows once a step, whatever the micro-batches.
    assert [called.call_count for called in beside.values()] == [1, 1]
    assert float(report.loss) == pytest.approx(sum(losses) / 4, rel=1e-12)
    assert report.embeddings.shape[0] == 32
    assert not report.loss.requires_grad
    mean = torch.stack([g for g in gradients if g is not None]).mean(0)
    ours = next(session.method.backbone.parameters()).grad
    assert ours is not None
    torch.testing.assert_close(ours, mean, rtol=1e-10, atol=1e-14)


def test_micro_batches_of_a_method_defined_on_the_whole_batch_are_refused() -> None:
    with pytest.raises(InputError, match=r"accumulation_loss = micro: .* what matrix_ssl is defined on; use"):
        config("train.accumulation=4", "train.accumulation_loss=micro")


def test_each_micro_batch_draws_its_own_numbers() -> None:
    first, same, other = (Step(7, PLAN, 3, micro).generator().initial_seed() for micro in (0, 0, 1))
    assert first == same == (3 * 0x9E3779B1 + 7)
    assert first != other


def test_reports_of_micro_batches_are_joined() -> None:
    one, other = (
        LossReport(torch.tensor(x), {"part": torch.tensor(2 * x)}, torch.full((2, 3), x)) for x in (1.0, 3.0)
    )
    joined = mean_report([one, other])
    assert (float(joined.loss), float(joined.parts["part"])) == (2.0, 4.0)
    assert joined.embeddings.tolist() == [[1.0] * 3] * 2 + [[3.0] * 3] * 2
    assert mean_report([one]) is one


def test_slices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"train\.accumulation = 5 does not divide train\.batch_size = 32"):
        config("train.accumulation=5")
    check_accumulation(config("train.accumulation=16"), workers=2)
    with pytest.raises(InputError, match=r"the 16 rows of each of 2 workers .* use train\.batch_size=64"):
        check_accumulation(config("train.accumulation=32"), workers=2)


def test_the_start_says_what_accumulation_means() -> None:
    sliced = " ".join(prepare(config("train.accumulation=4")).lines)
    assert "the loss is that of all 32 images; the backbone takes each view in 4 slices of 8" in sliced
    micro = " ".join(prepare(MICRO).lines)
    assert (
        "4 micro-batches of 8 images in a step, whose loss is the mean of theirs: the loss is a mean" in micro
    )
    assert "accumulation" not in " ".join(prepare(config()).lines)
