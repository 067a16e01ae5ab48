"""One worker's training in memory: modules, optimizer, feed; a step forward, a state out, a state in."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysl import methods
from raysl.data.decoded import Decoded, normalization
from raysl.data.memory import Batch, MemoryFeed
from raysl.data.views import ViewPipeline
from raysl.methods.base import LossReport, Method, Step
from raysl.models.backbones import build_backbone
from raysl.models.parallel import rank, synchronise_batch_norm, world_size
from raysl.train.checkpoint import Position, TrainingState
from raysl.train.config import RunConfig
from raysl.train.optimizers import build_optimizer, load_optimizer_tensors, optimizer_tensors
from raysl.train.schedules import learning_rate, make_plan

# Synchronised normalisation keeps buffers equal by itself. torch 2.15 gave the switch another name.
_NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
_DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TrainData:
    """The decoded training set, in two parts.

    Args:
        train: what the encoder learns from.
        selection: images held out of it, on which runs are compared.
    """

    train: Decoded
    selection: Decoded


class Session:
    """Everything one worker holds while it trains.

    Args:
        config: the run.
        data: the decoded images; only `data.train` is trained on.
        device: where this worker computes.
    """

    def __init__(self, config: RunConfig, data: TrainData, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.dtype = _DTYPES[config.train.precision]
        self.plan = make_plan(config, len(data.train))
        self.views = ViewPipeline(config.views, normalization(config.data, data.train), data.train.size)
        self.feed = MemoryFeed(
            data.train,
            self.views,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            rank=rank(),
            world_size=world_size(),
            device=device,
            dtype=self.dtype,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            backbone = build_backbone(config.backbone, image_channels=data.train.channels)
            method = methods.method_class(config.method.name)(config.method, backbone, self.plan)
        method.to(device, self.dtype).train()
        self.method: Method = _converted(method)
        self.module: nn.Module = self.method
        if world_size() > 1:
            options: dict[str, Any] = {_SYNC_BUFFERS: False, "gradient_as_bucket_view": True}
            self.module = DistributedDataParallel(self.method, **options)
        self.optimizer = build_optimizer(config.optimizer, self.method, learning_rate(config, self.plan, 0))

    def step(self, batch: Batch, index: int) -> tuple[LossReport, dict[str, Tensor | float]]:
        """Take one optimizer step.

        Args:
            batch: this worker's rows of the global batch.
            index: optimizer steps taken before this one.

        Returns:
            The loss report and the scalars to log, which carry no gradient.
        """
        config, step = self.config, Step(index, self.plan, self.config.train.seed)
        lr = learning_rate(config, self.plan, index)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Dropout and its like are so a function of (seed, step, worker): no generator state needs to be kept.
        torch.manual_seed((config.train.seed * 0x9E3779B1 + index * 0x85EBCA6B + rank()) % 2**63)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.train.precision == "bf16"):
            report: LossReport = self.module(batch.views, step)
        report.loss.backward()  # type: ignore[no-untyped-call]
        scalars: dict[str, Tensor | float] = {"loss": report.loss.detach(), "lr": lr}
        scalars |= {name: part.detach() for name, part in report.parts.items()}
        if config.train.grad_clip is not None:
            scalars["grad_norm"] = nn.utils.clip_grad_norm_(self.method.parameters(), config.train.grad_clip)
        self.optimizer.step()
        return report, scalars | self.method.after_step(step)

    def state(
        self, position: Position, partial: Mapping[str, float], metrics: Mapping[str, float]
    ) -> TrainingState:
        """Return all that is needed to go on from a position."""
        return TrainingState(
            position,
            self.method.state_dict(),
            optimizer_tensors(self.optimizer, self.method),
            partial,
            metrics,
        )

    def restore(self, state: TrainingState) -> None:
        """Put a state back."""
        self.method.load_state_dict(dict(state.model))
        load_optimizer_tensors(self.optimizer, self.method, state.optimizer)


def _converted(method: Method) -> Method:
    converted = synchronise_batch_norm(method)
    if not isinstance(converted, Method):
        raise TypeError(f"{type(method).__name__} must contain its batch normalisation, not be one")
    return converted
