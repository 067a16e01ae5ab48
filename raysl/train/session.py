"""One worker's training in memory: modules, optimizer, feed; a step forward, a state out, a state in."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysl import methods
from raysl.data.batches import Batch, Batching
from raysl.data.decoded import Decoded, normalization
from raysl.data.encoded import Training
from raysl.data.feeds import Feed, build_feed
from raysl.data.views import ViewPipeline
from raysl.methods.base import LossReport, Method, Pixels, Step
from raysl.models.backbones import build_backbone
from raysl.models.parallel import rank, synchronise_batch_norm, world_size
from raysl.train.accumulation import (
    check_accumulation,
    mean_report,
    micro_batches,
    slice_backbones,
    take_slices,
)
from raysl.train.checkpoint import Position, TrainingState
from raysl.train.compilation import compile_backbones, explained_compilation
from raysl.train.config import RunConfig
from raysl.train.optimizers import build_optimizer, load_optimizer_tensors, optimizer_tensors
from raysl.train.schedules import learning_rate, make_plan, weight_decay

# Synchronised normalisation keeps buffers equal by itself. torch 2.15 gave the switch another name.
_NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
_DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TrainData:
    """The training set, in two parts.

    Args:
        train: what the encoder learns from, as its feed has it.
        selection: images held out of it, on which runs are compared; decoded.
    """

    train: Training
    selection: Decoded


class Session:
    """Everything one worker holds while it trains.

    Args:
        config: the run.
        data: the images; only `data.train` is trained on.
        device: where this worker computes.
    """

    def __init__(self, config: RunConfig, data: TrainData, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.dtype = _DTYPES[config.train.precision]
        check_accumulation(config, world_size())
        pixels = normalization(config.data, data.train)
        self.views = ViewPipeline(config.views, pixels, data.train.size)
        self.plan = replace(
            make_plan(config, len(data.train)),
            pixels=Pixels(tuple(pixels.mean), tuple(pixels.std)),
            image_size=self.views.sizes[0],
        )
        # The method's batch is the one its loss is of.
        self.micro = micro_batches(config)
        self.method_plan = replace(self.plan, batch_size=self.plan.batch_size // self.micro)
        self.feed: Feed = build_feed(
            data.train,
            self.views,
            Batching(
                config.train.batch_size,
                config.train.seed,
                config.train.epochs,
                rank(),
                world_size(),
                device,
                self.dtype,
                config.method.plain_views,
            ),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            backbone = build_backbone(config.backbone, image_channels=data.train.channels)
            method = methods.build_method(config.method, backbone, self.method_plan)
        method.to(device, self.dtype).train()
        self.method: Method = _equipped(_converted(method), config)
        self.module: nn.Module = self.method
        if world_size() > 1:
            options: dict[str, Any] = {_SYNC_BUFFERS: False, "gradient_as_bucket_view": True}
            self.module = DistributedDataParallel(self.method, **options)
        self.optimizer = build_optimizer(
            config.optimizer,
            self.method,
            learning_rate(config, self.plan, 0),
            fixed_lr=self.method.fixed_lr_modules(),
        )

    def step(self, batch: Batch, index: int) -> tuple[LossReport, dict[str, Tensor | float]]:
        """Take one optimizer step.

        Args:
            batch: this worker's rows of the global batch.
            index: optimizer steps taken before this one.

        Returns:
            The loss report and the scalars to log, which carry no gradient.
        """
        config, step = self.config, Step(index, self.method_plan, self.config.train.seed)
        lr = learning_rate(config, self.plan, index)
        decay = weight_decay(config.optimizer, self.plan, index)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = decay if group["decays"] else 0.0
            group["lr"] = config.optimizer.peak_lr(self.plan.batch_size) if group["fixed_lr"] else lr
        # Dropout and its like are so a function of (seed, step, worker): no generator state needs to be kept.
        torch.manual_seed((config.train.seed * 0x9E3779B1 + index * 0x85EBCA6B + rank()) % 2**63)
        before = self.method.before_step(step)
        self.optimizer.zero_grad(set_to_none=True)
        with explained_compilation(config.train.compile):
            report = self._gradients(batch.views, step)
        scalars: dict[str, Tensor | float] = {"loss": report.loss.detach(), "lr": lr, **before}
        scalars |= {name: part.detach() for name, part in report.parts.items()}
        if config.train.grad_clip is not None:
            scalars["grad_norm"] = nn.utils.clip_grad_norm_(self.method.parameters(), config.train.grad_clip)
        self.optimizer.step()
        return report, scalars | self.method.after_step(step)

    def _gradients(self, views: Sequence[Tensor], step: Step) -> LossReport:
        """Run forward and backward over the batch, or over its micro-batches one after the other."""
        if self.config.train.channels_last:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        bf16 = self.config.train.precision == "bf16"
        reports: list[LossReport] = []
        for number, part in enumerate(take_slices(views, self.micro) if self.micro > 1 else [views]):
            waits = number + 1 < self.micro and isinstance(self.module, DistributedDataParallel)
            with self.module.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                    report: LossReport = self.module(part, replace(step, micro=number))
                (report.loss / self.micro).backward()  # type: ignore[no-untyped-call]
            reports.append(report)
        return mean_report(reports)

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


def _equipped(method: Method, config: RunConfig) -> Method:
    """Apply what makes a method faster or smaller and leaves it what it is."""
    train = config.train
    if train.accumulation_loss == "global":
        slice_backbones(method, train.accumulation)
    if train.channels_last:
        method.to(memory_format=torch.channels_last)
    if train.compile:
        compile_backbones(method)
    return method


def _converted(method: Method) -> Method:
    converted = synchronise_batch_norm(method)
    if not isinstance(converted, Method):
        raise TypeError(f"{type(method).__name__} must contain its batch normalisation, not be one")
    return converted
