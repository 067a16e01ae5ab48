"""Trajectories of optimizers along stored gradients, and MEC's linear probe over five steps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.methods.base import Plan
from raysl.train.config import OptimizerConfig, ScheduleConfig
from raysl.train.optimizers import build_optimizer
from raysl.train.schedules import rate
from raysl.verify.reference import Case, Compute, Values


def _follow(config: OptimizerConfig, inputs: Values, lrs: list[float]) -> Values:
    """Step along the stored gradients and return both parameters after each step."""
    classes, features = inputs["W0"].shape
    layer = nn.Linear(features, classes, dtype=inputs["W0"].dtype)
    layer.load_state_dict({"weight": inputs["W0"], "bias": inputs["b0"]})
    optimizer = build_optimizer(config, layer, lrs[0])
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for lr, weight_grad, bias_grad in zip(lrs, inputs["grads_W"], inputs["grads_b"], strict=True):
        for group in optimizer.param_groups:
            group["lr"] = lr
        layer.weight.grad, layer.bias.grad = weight_grad.detach().clone(), bias_grad.detach().clone()
        optimizer.step()
        weights.append(layer.weight.detach().clone())
        biases.append(layer.bias.detach().clone())
    return {"W_traj": torch.stack(weights), "b_traj": torch.stack(biases)}


def _larc_config(h: dict[str, Any]) -> OptimizerConfig:
    return OptimizerConfig(
        momentum=h["momentum"],
        weight_decay=h["weight_decay"],
        larc="clip" if h["clip"] else True,
        trust_coefficient=h["trust_coefficient"],
        adapt_one_dimensional=True,
    )


def _larc(case: Case, inputs: Values) -> Values:
    return _follow(_larc_config(case.hyperparameters), inputs, case.hyperparameters["lr"])


def _sgd(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    config = OptimizerConfig(momentum=h["momentum"], weight_decay=h.get("weight_decay", 0.0))
    return _follow(config, inputs, h["lr"])


def _adam(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    config = OptimizerConfig(name="adam", weight_decay=h["weight_decay"])
    return _follow(config, inputs, [h["lr"]] * len(inputs["grads_W"]))


def _mec_probe(case: Case, inputs: Values) -> Values:
    h, x, y = case.hyperparameters, inputs["X"].detach(), inputs["y"].long()
    classes, features = inputs["W0"].shape
    norm = nn.BatchNorm1d(features, affine=False, eps=1e-6, dtype=x.dtype)
    layer = nn.Linear(features, classes, dtype=x.dtype)
    layer.load_state_dict({"weight": inputs["W0"], "bias": x.new_zeros(classes)})
    head, plan = nn.Sequential(norm, layer), Plan(x.shape[1], 1, h["steps"])
    config = OptimizerConfig(momentum=0.9, larc=True, adapt_one_dimensional=True)
    optimizer = build_optimizer(config, head, h["init_lr"])
    losses: list[Tensor] = []
    for step in range(h["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = rate(ScheduleConfig(), h["init_lr"], plan, step)
        optimizer.zero_grad()
        loss = F.cross_entropy(head(x[step]), y[step])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
    return {
        "losses": torch.stack(losses),
        "W": layer.weight.detach(),
        "b": layer.bias.detach(),
        **{name: buffer for name, buffer in norm.named_buffers() if name.startswith("running_")},
    }


COMPUTE: dict[str, Compute] = {
    "08b_optim/larc_": _larc,
    "08b_optim/sgd_": _sgd,
    "08b_optim/adam_": _adam,
    "08b_optim/mec_lincls_toy": _mec_probe,
}
