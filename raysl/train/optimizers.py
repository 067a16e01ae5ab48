"""Optimizers, their parameter groups, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raysl.train.config import OptimizerConfig


def build_optimizer(config: OptimizerConfig, module: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter that takes a gradient.

    Args:
        config: which one, and its options.
        module: the method.
        lr: learning rate of the first step.
    """
    groups = param_groups(module, config.weight_decay, config.decay_one_dimensional)
    match config.name:
        case "sgd":
            nesterov = config.nesterov and config.momentum > 0.0
            return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=config.betas, eps=config.eps)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps)


def param_groups(module: nn.Module, weight_decay: float, decay_one_dimensional: bool) -> list[dict[str, Any]]:
    """Split trainable parameters by whether they decay.

    Biases and normalisation parameters are the one-dimensional ones.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    exempt = [p for p in trainable if p.ndim <= 1 and not decay_one_dimensional]
    decayed = [p for p in trainable if p.ndim > 1 or decay_one_dimensional]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named `parameter.slot`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}.{slot}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for slot, value in state.items()
        if value is not None
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned."""
    parameters = dict(module.named_parameters())
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition(".")
        parameter = parameters[name]
        # Step counters stay on the CPU in their own type; moments live beside their parameter.
        moved = tensor if tensor.ndim == 0 else tensor.to(parameter.device, parameter.dtype)
        optimizer.state[parameter][slot] = moved.clone()
