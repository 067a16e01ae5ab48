"""Optimizers, their parameter groups, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raysl.train.config import OptimizerConfig
from raysl.train.layerwise import Larc, Lars


def build_optimizer(
    config: OptimizerConfig, module: nn.Module, lr: float, fixed_lr: Sequence[nn.Module] = ()
) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter that takes a gradient.

    Args:
        config: which one, and its options.
        module: the method.
        lr: learning rate of the first step.
        fixed_lr: modules of it whose learning rate does not follow the schedule.
    """
    groups = param_groups(module, config, fixed_lr)
    match config.name:
        case "sgd":
            nesterov = config.nesterov and config.momentum > 0.0
            if not config.larc:
                return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov)
            return Larc(
                groups,
                lr=lr,
                momentum=config.momentum,
                nesterov=nesterov,
                trust_coefficient=config.trust_coefficient,
                clip=config.larc == "clip",
            )
        case "lars":
            return Lars(groups, lr=lr, momentum=config.momentum, trust_coefficient=config.trust_coefficient)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=config.betas, eps=config.eps)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps)


def param_groups(
    module: nn.Module, config: OptimizerConfig, fixed_lr: Sequence[nn.Module] = ()
) -> list[dict[str, Any]]:
    """Split trainable parameters by whether they decay, are scaled (LARS, LARC) and keep their rate.

    Biases and normalisation parameters are the one-dimensional ones. Each group says under `decays`, `adapt`
    and `fixed_lr` what it is.
    """
    fixed = {id(parameter) for part in fixed_lr for parameter in part.parameters()}
    layerwise = config.name == "lars" or bool(config.larc)
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim > 1
            decays = matrix or config.decay_one_dimensional
            adapt = layerwise and (matrix or config.adapt_one_dimensional)
            groups.setdefault((decays, adapt, id(parameter) in fixed), []).append(parameter)
    return [
        {
            "params": groups[kind],
            "weight_decay": config.weight_decay if kind[0] else 0.0,
            "decays": kind[0],
            "adapt": kind[1],
            "fixed_lr": kind[2],
        }
        for kind in sorted(groups, reverse=True)
    ]


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
        # Step counters stay on the CPU in their own type; moments live beside their parameter, in its layout.
        optimizer.state[parameter][slot] = (
            tensor.clone() if slot == "step" else torch.empty_like(parameter).copy_(tensor)
        )
