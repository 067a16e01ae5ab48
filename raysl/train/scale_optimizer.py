"""What a larger batch means for the learning rate, its warm-up and its milestones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from raysl.methods.base import Change, Label
from raysl.train.config import RunConfig
from raysl.train.scale_lengths import Lengths, label_of, rescaled_steps

_ADAPTIVE = ("adam", "adamw")
_LARGEST_LINEAR = 8
"""Beyond this ratio of batches the linear rule is not relied on."""


def optimizer_changes(config: RunConfig, batch_size: int) -> Iterator[Change]:
    """Yield what becomes of the learning rate and of Adam's decay rates.

    Linear, lr' = k lr with k the ratio of batches, for `sgd` and `lars`; square root, lr' = sqrt(k) lr, for
    `adam` and `adamw`. A config that names a rule itself (`lr_scaling`) keeps its `lr`.

    Source: Goyal et al. 2017 (arXiv 1706.02677), section 2.1; Malladi et al. 2022 (arXiv 2205.10287),
    definition 4.3, whose rule is beta' = 1 - k (1 - beta), eps' = eps / sqrt(k) as well.
    """
    optimizer, old = config.optimizer, config.train.batch_size
    k = batch_size / old
    rule = "sqrt" if optimizer.name in _ADAPTIVE else "linear"
    factor = math.sqrt(k) if rule == "sqrt" else k
    source = "arXiv 2205.10287" if rule == "sqrt" else "arXiv 1706.02677"
    label, why = _judged(
        rule, k, f"{optimizer.name}: {rule} rule, batch x{k:g} gives rate x{factor:g} ({source})"
    )
    if k == 1:
        yield Change("optimizer.lr", optimizer.lr, optimizer.lr, "transferred", "the batch is the same")
    elif optimizer.lr_scaling == "none":
        yield Change("optimizer.lr", optimizer.lr, _rounded(optimizer.lr * factor), label, why)
    else:
        reference = optimizer.lr_reference_batch
        stated = f"stated for {reference} images; lr_scaling carries it to the batch"
        yield Change("optimizer.lr", optimizer.lr, optimizer.lr, "transferred", stated)
        if optimizer.lr_scaling != rule:
            label, why = (
                "unsafe",
                f"lr_scaling is {optimizer.lr_scaling}, but the rule of {optimizer.name} is {rule}",
            )
        peaks = [_rounded(optimizer.peak_lr(batch)) for batch in (old, batch_size)]
        yield Change("peak learning rate", peaks[0], peaks[1], label, why, derived=True)
    if optimizer.name in _ADAPTIVE and k != 1:
        yield _betas(config, k)
    elif optimizer.name not in _ADAPTIVE:
        why = "the linear rule keeps it (arXiv 1706.02677)"
        yield Change("optimizer.momentum", optimizer.momentum, optimizer.momentum, "transferred", why)
    if optimizer.lr_scaling != "none":
        factor = optimizer.peak_lr(batch_size) / optimizer.peak_lr(old)
    yield _weight_decay(config, k, factor)
    if config.train.grad_clip is not None and k != 1:
        clip, why = config.train.grad_clip, "gradients of a larger batch are shorter, with less noise in them"
        yield Change("train.grad_clip", clip, clip, "unsafe", why)


def _judged(rule: str, k: float, why: str) -> tuple[Label, str]:
    if rule == "linear" and k > _LARGEST_LINEAR:
        return (
            "unsafe",
            f"{why}, which is not relied on beyond x{_LARGEST_LINEAR}: try half and twice as much",
        )
    return "rescaled", why


def _weight_decay(config: RunConfig, k: float, factor: float) -> Change:
    """Say whether weights decay as much an epoch: by rate * decay in 1 / k times the steps.

    Args:
        config: the small run.
        k: ratio of the batches.
        factor: that of the rates.
    """
    name, decay = config.optimizer.name, config.optimizer.weight_decay
    label: Label = "transferred"
    if k == 1:
        why = "the batch is the same"
    elif name == "adam":
        why = "a part of the gradient, which the rate scales as a whole"
    elif decay == 0 or math.isclose(factor, k):
        why = "weights decay as much an epoch as before, since the rate follows the batch"
    else:
        label = "unsafe"
        why = (
            f"kept, as is usual; with a rate x{factor:g} and a batch x{k:g} weights decay {factor / k:.3g} "
            f"times as much an epoch, which {decay * k / factor:.3g} would make up for"
        )
    return Change("optimizer.weight_decay", decay, decay, label, why)


def _betas(config: RunConfig, k: float) -> Change:
    betas = list(config.optimizer.betas)
    ruled = [1 - k * (1 - beta) for beta in betas]
    told = ", ".join(f"{beta:.4g}" for beta in ruled)
    if min(ruled) > 0:
        why = f"kept, as is usual; the rule in full would have {told} (arXiv 2205.10287)"
        return Change("optimizer.betas", betas, betas, "transferred", why)
    why = f"the rule in full asks for {told}, which cannot be: x{k:g} is beyond it (arXiv 2205.10287)"
    return Change("optimizer.betas", betas, betas, "unsafe", why)


def schedule_changes(config: RunConfig, lengths: Lengths) -> Iterator[Change]:
    """Yield what becomes of the horizon, the warm-up, the milestones, the cycle and the cooldowns."""
    schedule = config.schedule
    old, new = lengths.horizons
    if schedule.horizon is not None and old != new:
        why = "it goes with the epochs that were asked for"
        yield Change("schedule.horizon", schedule.horizon, new, "rescaled", why)
    yield _warmup(config, lengths)
    if schedule.milestones:
        before, after = list(schedule.milestones), [_length(at, lengths) for at in schedule.milestones]
        why = (
            "at the same shares of the horizon"
            if after != before
            else "counted in epochs, of which there are as many"
        )
        yield Change("schedule.milestones", before, after, label_of(before, after), why)
    if schedule.cycle is not None:
        cycle = _length(schedule.cycle, lengths)
        why = "the same share of the horizon"
        yield Change("schedule.cycle", schedule.cycle, cycle, label_of(schedule.cycle, cycle), why)
    if schedule.name == "wsd":
        given, share = list(schedule.judged), new / old
        moved = sorted({max(1, round(epoch * share)) for epoch in given})
        yield Change(
            "schedule.judged", given, moved, label_of(given, moved), "at the same shares of the horizon"
        )
        cooldown = _length(schedule.cooldown, lengths)
        why = "the same share of the steps between judged epochs"
        yield Change(
            "schedule.cooldown", schedule.cooldown, cooldown, label_of(schedule.cooldown, cooldown), why
        )


def _warmup(config: RunConfig, lengths: Lengths) -> Change:
    given = config.schedule.warmup
    key, new = "schedule.warmup", rescaled_steps(given, lengths)
    if new != given:
        return Change(key, given, new, "rescaled", "the same share of the horizon")
    grows = config.optimizer.peak_lr(lengths.batches[1]) > config.optimizer.peak_lr(lengths.batches[0])
    larger = lengths.batches[1] > lengths.batches[0]
    if not isinstance(given, str) and given == 0 and (grows or larger):
        why = "none, but a larger rate needs one: 5 to 10 epochs are usual (arXiv 1706.02677, section 2.2)"
        return Change(key, given, given, "unsafe", why)
    if isinstance(given, str):
        return Change(key, given, given, "transferred", "a share of the horizon")
    if given >= lengths.horizons[1]:
        return Change(
            key, given, given, "unsafe", f"fills the horizon of {lengths.horizons[1]:g} epochs; shorten it"
        )
    return Change(key, given, given, "transferred", "counted in epochs: as many images")


def _length(value: Any, lengths: Lengths) -> Any:
    """Return an epoch or a number of steps at the same share of the horizon; a share as it is."""
    old, new = lengths.horizons
    if isinstance(value, str) or old == new:
        return rescaled_steps(value, lengths)
    return _rounded(value * new / old)


def _rounded(value: float) -> float:
    """Return six significant digits, which is what a person would write."""
    return float(f"{value:.6g}")
