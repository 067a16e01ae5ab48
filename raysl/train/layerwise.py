"""Stochastic gradient descent whose steps are as long, in every layer, as its weights allow: LARS and LARC.

Shapes: p a parameter, g its gradient, v its momentum buffer; |.| the Euclidean norm of a whole tensor. Only
groups marked `adapt` are scaled. Norms stay tensors, so that no parameter makes the host wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_EPS = 1e-8


class Lars(torch.optim.Optimizer):
    """Momentum SGD with a rate for each tensor.

    r = trust |p| / (|g| + decay |p|), 1 where |p| or |g| is 0; v <- momentum v + lr r (g + decay p);
    p <- p - v. The learning rate is inside the momentum, as in the paper's algorithm 1.

    Args:
        groups: parameter groups with `weight_decay` and `adapt`.
        lr: global learning rate.
        momentum: decay of v.
        trust_coefficient: trust.

    Source: You et al. 2017 (arXiv 1708.03888), algorithm 1, whose r is 0, not 1, for a tensor of zeros.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, momentum: float, trust_coefficient: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapt": False})
        self.trust_coefficient = trust_coefficient

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step along the gradients that are there."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            parameters, gradients = _with_gradients(group)
            if not parameters:
                continue
            decay = group["weight_decay"]
            updates = list(torch._foreach_add(gradients, parameters, alpha=decay))
            if group["adapt"]:
                rates, _ = _rates(parameters, gradients, decay, self.trust_coefficient)
                torch._foreach_mul_(updates, list(rates.unbind()))
            buffers = [self._buffer(parameter) for parameter in parameters]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates, alpha=group["lr"])
            torch._foreach_sub_(parameters, buffers)
        return loss

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


class Larc(torch.optim.SGD):
    """torch's SGD on gradients that are scaled first.

    g <- (g + decay p) r, r = trust |p| / (|g| + decay |p| + 1e-8); with `clip` r <- min(r / lr, 1). Where |p|
    or |g| is 0 the gradient stays as it is, without decay.

    Args:
        groups: parameter groups with `weight_decay` and `adapt`.
        lr: learning rate.
        momentum: of SGD.
        nesterov: of SGD.
        trust_coefficient: trust.
        clip: bound the tensor's own rate by the learning rate.

    Source: `apex.parallel.LARC`, the form in which MEC, Matrix-SSL and CW-RGP train their linear probes.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        trust_coefficient: float,
        clip: bool,
    ) -> None:
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=nesterov)
        self.trust_coefficient = trust_coefficient
        self.clip = clip

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Scale the gradients, in place, and take SGD's step along them."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        adapted = [group for group in self.param_groups if group["adapt"]]
        decays = [group["weight_decay"] for group in adapted]
        try:
            for group in adapted:
                self._scale(group)
                # It is in the gradient already.
                group["weight_decay"] = 0.0
            super().step()
        finally:
            for group, decay in zip(adapted, decays, strict=True):
                group["weight_decay"] = decay
        return loss

    def _scale(self, group: dict[str, Any]) -> None:
        parameters, gradients = _with_gradients(group)
        if not parameters:
            return
        decay = group["weight_decay"]
        rates, adapted = _rates(parameters, gradients, decay, self.trust_coefficient)
        if self.clip:
            rates = torch.where(adapted, (rates / group["lr"]).clamp(max=1.0), 1.0)
        if decay:
            decays = torch.where(adapted, decay, 0.0).to(rates.dtype)
            torch._foreach_add_(gradients, torch._foreach_mul(parameters, list(decays.unbind())))
        torch._foreach_mul_(gradients, list(rates.unbind()))


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
    return parameters, [p.grad for p in parameters if p.grad is not None]


def _rates(
    parameters: list[Tensor], gradients: list[Tensor], decay: float, trust: float
) -> tuple[Tensor, Tensor]:
    """Return trust |p| / (|g| + decay |p| + eps) of each tensor, 1 where |p| or |g| is 0, and where not."""
    lengths = torch.stack(list(torch._foreach_norm(parameters)))
    slopes = torch.stack(list(torch._foreach_norm(gradients)))
    adapted = (lengths > 0) & (slopes > 0)
    return torch.where(adapted, trust * lengths / (slopes + decay * lengths + _EPS), 1.0), adapted
