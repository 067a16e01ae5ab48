"""Parameter groups, and an optimizer's state by parameter name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raysl.config import build
from raysl.errors import InputError
from raysl.train.config import OptimizerConfig
from raysl.train.optimizers import build_optimizer, load_optimizer_tensors, optimizer_tensors


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    inputs = torch.linspace(-1, 1, 24).view(6, 4)
    for _ in range(count):
        optimizer.zero_grad()
        loss: Tensor = module(inputs).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


CONFIGS = [
    OptimizerConfig(name="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    OptimizerConfig(name="sgd", lr=0.01, momentum=0.0),
    OptimizerConfig(name="adam", lr=0.01, weight_decay=0.1),
    OptimizerConfig(name="adamw", lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    OptimizerConfig(name="lars", lr=0.5, weight_decay=0.1, trust_coefficient=0.02),
    OptimizerConfig(name="sgd", lr=0.5, weight_decay=0.1, larc=True),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["nesterov", "plain", "adam", "adamw", "lars", "larc"])
def test_going_on_from_the_tensors_equals_never_having_stopped(config: OptimizerConfig) -> None:
    straight = network()
    optimizer = build_optimizer(config, straight, config.lr)
    steps(straight, optimizer, 5)

    before = network()
    first = build_optimizer(config, before, config.lr)
    steps(before, first, 3)
    after = network()
    after.load_state_dict(before.state_dict())
    second = build_optimizer(config, after, config.lr)
    load_optimizer_tensors(second, after, optimizer_tensors(first, before))
    steps(after, second, 2)

    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name
    ours, theirs = optimizer_tensors(second, after), optimizer_tensors(optimizer, straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_moments_of_a_single_number_live_beside_it() -> None:
    module = nn.Module()
    module.temperature = nn.Parameter(torch.tensor(2.0))
    optimizer = build_optimizer(CONFIGS[2], module, 0.01)
    module.temperature.grad = torch.tensor(1.0)
    optimizer.step()
    saved = optimizer_tensors(optimizer, module)
    elsewhere = nn.Module()
    elsewhere.temperature = nn.Parameter(torch.tensor(0.0, device="meta"))
    other = build_optimizer(CONFIGS[2], elsewhere, 0.01)
    load_optimizer_tensors(other, elsewhere, saved)
    devices = {slot: x.device.type for slot, x in other.state[elsewhere.temperature].items()}
    assert devices == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}


def test_tensors_are_named_by_parameter_and_slot() -> None:
    module = network()
    optimizer = build_optimizer(CONFIGS[2], module, 0.01)
    steps(module, optimizer, 1)
    names = set(optimizer_tensors(optimizer, module))
    assert {"0.weight.exp_avg", "0.weight.exp_avg_sq", "0.weight.step", "1.bias.exp_avg"} <= names


def test_only_what_has_two_dimensions_decays_when_asked() -> None:
    module = network()
    module[0].bias.requires_grad_(False)
    config = OptimizerConfig(name="sgd", weight_decay=0.1, decay_one_dimensional=False)
    decayed, exempt = build_optimizer(config, module, 0.1).param_groups
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(module[0].weight), id(module[2].weight)]
    assert [id(p) for p in exempt["params"]] == [id(module[1].weight), id(module[1].bias), id(module[2].bias)]
    everything = build_optimizer(OptimizerConfig(weight_decay=0.1), module, 0.1).param_groups
    assert len(everything) == 1
    assert len(everything[0]["params"]) == 5


def gradients(module: nn.Module, count: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(p.shape, generator=generator) for p in module.parameters()] for _ in range(count)]


def follow(config: OptimizerConfig, module: nn.Module, given: list[list[Tensor]]) -> None:
    optimizer = build_optimizer(config, module, config.lr)
    for number, grads in enumerate(given):
        for group in optimizer.param_groups:
            group["lr"] = config.lr / (1 + number)
        for parameter, grad in zip(module.parameters(), grads, strict=True):
            parameter.grad = grad.clone()
        optimizer.step()


@pytest.mark.parametrize("one_dimensional", [False, True])
def test_lars_is_its_papers_algorithm(one_dimensional: bool) -> None:
    config = OptimizerConfig(
        name="lars", lr=0.5, momentum=0.8, weight_decay=0.1, trust_coefficient=0.02,
        adapt_one_dimensional=one_dimensional, decay_one_dimensional=one_dimensional,
    )  # fmt: skip
    module, plain = network(), network()
    list(plain.parameters())[3].data.zero_()
    module.load_state_dict(plain.state_dict())
    given = gradients(module, 4)
    follow(config, module, given)
    for place, p in enumerate(plain.parameters()):
        w, v = p.detach().clone(), torch.zeros_like(p)
        scaled = p.ndim > 1 or one_dimensional
        for number, grads in enumerate(given):
            g, decay = grads[place], 0.1 if scaled else 0.0
            rate = 1.0
            if scaled and w.norm() > 0:
                rate = 0.02 * float(w.norm() / (g.norm() + decay * w.norm()))
            v = 0.8 * v + 0.5 / (1 + number) * rate * (g + decay * w)
            w = w - v
        torch.testing.assert_close(list(module.parameters())[place].detach(), w, rtol=1e-5, atol=1e-6)


def test_larc_is_sgd_on_scaled_gradients_and_leaves_biases_to_sgd() -> None:
    config = OptimizerConfig(lr=0.3, weight_decay=0.1, larc=True, trust_coefficient=0.05)
    module, plain = network(), network()
    given = gradients(module, 3)
    follow(config, module, given)
    follow(OptimizerConfig(lr=0.3, weight_decay=0.1), plain, given)
    for (name, ours), sgd in zip(module.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, sgd) == (ours.ndim == 1), name


def test_larc_that_clips_never_steps_further_than_sgd() -> None:
    near, far, sgd = network(), network(), network()
    given = gradients(near, 1)
    follow(OptimizerConfig(lr=0.3, larc="clip", trust_coefficient=0.5), near, [[10 * g for g in given[0]]])
    follow(OptimizerConfig(lr=0.3, larc="clip", trust_coefficient=0.5), far, [[0.01 * g for g in given[0]]])
    follow(OptimizerConfig(lr=0.3), sgd, [[0.01 * g for g in given[0]]])
    torch.testing.assert_close(far.state_dict(), sgd.state_dict())
    before, after = (next(module.parameters()).detach() for module in (network(), near))
    assert float((after - before).norm()) == pytest.approx(0.5 * float(before.norm()), rel=1e-5)


def test_larc_leaves_the_groups_as_they_were() -> None:
    module = network()
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1, larc=True), module, 0.1)
    before = [copy.copy(group) for group in optimizer.param_groups]
    steps(module, optimizer, 1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1] * len(before)


def test_modules_with_a_fixed_rate_have_groups_of_their_own() -> None:
    module = network()
    config = OptimizerConfig(weight_decay=0.1, decay_one_dimensional=False)
    groups = build_optimizer(config, module, 0.1, fixed_lr=[module[2]]).param_groups
    kinds = {(group["decays"], group["fixed_lr"]): [id(p) for p in group["params"]] for group in groups}
    assert kinds == {
        (True, True): [id(module[2].weight)],
        (True, False): [id(module[0].weight)],
        (False, True): [id(module[2].bias)],
        (False, False): [id(module[0].bias), id(module[1].weight), id(module[1].bias)],
    }
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1, 0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "adam", "larc": True}, "larc scales the gradients of sgd, not of adam"),
        ({"name": "lars", "nesterov": True}, "nesterov belongs to sgd, not to lars"),
    ],
)
def test_options_of_another_optimizer_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        build(OptimizerConfig, values)
