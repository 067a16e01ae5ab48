"""What joins the workers of a run: differentiable collectives and synchronised batch normalisation.

The convention of every method: embeddings are gathered, so each worker computes the same loss on the same
global batch. The backward pass of the collectives here sums over workers, which makes a worker's local
gradient world-size times its own share of the true one; the averaging of DistributedDataParallel then gives
exactly the gradient that one worker with the whole batch would have.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def world_size() -> int:
    """Return the number of workers; 1 when torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this worker's number from 0; 0 when torch.distributed is not initialised."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(x: Tensor) -> Tensor:
    """Concatenate every worker's rows, in rank order; differentiable.

    Args:
        x: local rows `(n, ...)`, as many on every worker.

    Returns:
        `(world_size * n, ...)`, the same on every worker; `x` itself when there is one worker.

    Raises:
        ValueError: the workers hold different shapes (checked on the CPU, where it costs no
            device synchronisation).
    """
    if world_size() == 1:
        return x
    if x.device.type == "cpu":
        _require_equal_shapes(x)
    return cast(Tensor, _Gather.apply(x))


def all_reduce(x: Tensor) -> Tensor:
    """Sum a tensor of equal shape over the workers; differentiable.

    Args:
        x: any shape, the same on every worker.

    Returns:
        The sum, the same on every worker; `x` itself when there is one worker.
    """
    if world_size() == 1:
        return x
    return cast(Tensor, _AllReduce.apply(x))


def _require_equal_shapes(x: Tensor) -> None:
    # Three numbers whatever the shape, so that the check itself cannot meet unequal lengths.
    mine = torch.tensor([x.dim(), x.shape[0] if x.dim() else 0, x.numel()])
    every = _concatenate(mine).view(-1, 3)
    if (every != mine).any():
        raise ValueError(
            f"gather needs equally many rows on every worker, got {every[:, 1].tolist()}; "
            "drop the incomplete batch"
        )


def _concatenate(x: Tensor) -> Tensor:
    out = x.new_empty(world_size() * x.shape[0], *x.shape[1:])
    dist.all_gather_into_tensor(out, x.contiguous())
    return out


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        return _concatenate(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.narrow(0, rank() * ctx.rows, ctx.rows)


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


class _NormaliseGlobally(torch.autograd.Function):
    """Batch normalisation by the statistics of the global batch: one collective each way.

    Forward: every worker sends its mean, its sum of squared deviations and its count, which Chan's
    formula joins without cancellation. Backward, with xhat = (x - mean) / std and averages over the global
    batch: dx = weight / std * (dy - mean(dy) - xhat * mean(dy * xhat)).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = _all_but_channels(x)
        stat_dtype = torch.promote_types(x.dtype, torch.float32)
        local_var, local_mean = torch.var_mean(x.to(stat_dtype), dim=dims, correction=0)
        count = float(x.numel() // x.shape[1])
        mine = torch.stack([local_mean, local_var * count, torch.full_like(local_mean, count)]).double()
        means, squares, counts = _concatenate(mine).view(-1, *mine.shape).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        var = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / total
        mean, var = mean.to(stat_dtype), var.to(stat_dtype)
        out = F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps), total.to(stat_dtype))
        ctx.mark_non_differentiable(mean, var, total)
        return out, mean, var, total

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *unused: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse_std, total = ctx.saved_tensors
        dims, shape = _all_but_channels(x), [1, -1] + [1] * (x.dim() - 2)
        grad_f = grad.to(mean.dtype)
        centred = x.to(mean.dtype) - mean.view(shape)
        local = torch.stack([grad_f.sum(dims), (grad_f * centred).sum(dims) * inverse_std])
        grad_bias, grad_weight = local.unbind(0)
        grad_x = None
        if ctx.needs_input_grad[0]:
            sums = local.clone()
            dist.all_reduce(sums)
            scale = inverse_std if weight is None else inverse_std * weight
            offset, slope = -scale * sums[0] / total, -scale * inverse_std * sums[1] / total
            grad_x = torch.addcmul(offset.view(shape), grad_f, scale.view(shape))
            grad_x = grad_x.addcmul_(centred, slope.view(shape)).to(x.dtype)
        return (
            grad_x,
            grad_weight if ctx.needs_input_grad[1] else None,
            grad_bias if ctx.needs_input_grad[2] else None,
            None,
        )


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


class SynchronisedBatchNorm(_BatchNorm):
    """Batch normalisation over the global batch, on any device.

    The same output, gradients and running statistics as torch.nn.BatchNorm on the concatenated batch.
    torch.nn.SyncBatchNorm does this on CUDA only and refuses CPU tensors. Workers may hold unequally many
    rows. In evaluation mode, or with one worker, it is torch.nn.BatchNorm.

    Takes the arguments of torch.nn.BatchNorm1d and inputs `(N, C)` or `(N, C, ...)`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input (N, C, ...), got {input.dim()} dimension(s)")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `(N, C, ...)` per channel."""
        self._check_input_dim(input)
        by_batch = self.training or not self.track_running_stats
        if not by_batch or world_size() == 1:
            return super().forward(input)
        normalised: tuple[Tensor, Tensor, Tensor, Tensor] = _NormaliseGlobally.apply(
            input, self.weight, self.bias, self.eps
        )
        out, mean, var, total = normalised
        if self.training and self.running_mean is not None and self.running_var is not None:
            self._track(self.running_mean, self.running_var, mean, var, total)
        return out

    @torch.no_grad()
    def _track(
        self, running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, total: Tensor
    ) -> None:
        factor = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if factor is None:
                factor = 1.0 / float(self.num_batches_tracked)
        unbiased = var * (total / (total - 1)).to(var.dtype)
        running_mean.lerp_(mean.to(running_mean.dtype), factor or 0.0)
        running_var.lerp_(unbiased.to(running_var.dtype), factor or 0.0)


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Make every batch normalisation inside a module use the global batch.

    Parameters and buffers stay the same objects, so optimizers and teachers built before are not disturbed.

    Args:
        module: converted in place, except when it is itself a batch normalisation.

    Returns:
        The converted module: torch.nn.SyncBatchNorm where its parameters are on CUDA, ours elsewhere;
        `module` untouched when there is one worker.
    """
    if world_size() == 1:
        return module
    parameter = next(module.parameters(), None)
    if parameter is not None and parameter.device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    return _convert(module)


def _convert(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _convert(child))
    if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return module
    norm = cast(_BatchNorm, module)
    converted = SynchronisedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    if norm.affine:
        converted.weight, converted.bias = norm.weight, norm.bias
    if norm.track_running_stats:
        converted.running_mean, converted.running_var = norm.running_mean, norm.running_var
        converted.num_batches_tracked = norm.num_batches_tracked
    return converted.train(norm.training)
