"""Parameter groups, and an optimizer's state by parameter name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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
]


@pytest.mark.parametrize("config", CONFIGS, ids=["nesterov", "plain", "adam", "adamw"])
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
