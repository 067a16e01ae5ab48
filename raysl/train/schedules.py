"""The learning rate of every step, and the plan of lengths it follows from."""

from __future__ import annotations

import math

from raysl.errors import InputError
from raysl.methods.base import Plan
from raysl.train.config import RunConfig


def make_plan(config: RunConfig, images: int) -> Plan:
    """Resolve a run's lengths for a training set.

    Args:
        config: the run.
        images: images in the training split.

    Raises:
        InputError: the batch is larger than the data, or a warm-up or milestone lies past the horizon.
    """
    batch = config.train.batch_size
    steps_per_epoch = images // batch
    if steps_per_epoch == 0:
        raise InputError(
            f"train.batch_size = {batch}: larger than the {images} training images of {config.data.source}; "
            f"use at most {images}"
        )
    plan = Plan(batch, steps_per_epoch, max(1, round(config.horizon * steps_per_epoch)))
    warmup = plan.steps(config.schedule.warmup)
    if warmup > plan.horizon_steps:
        raise InputError(
            f"schedule.warmup = {config.schedule.warmup!r}: {warmup} steps, outside the horizon's "
            f"{plan.horizon_steps}; shorten it or raise schedule.horizon"
        )
    for milestone in config.schedule.milestones:
        at = plan.steps(milestone)
        if not 0 < at < plan.horizon_steps:
            raise InputError(
                f"schedule.milestones: {milestone!r} is step {at} of a horizon of {plan.horizon_steps} "
                f"({config.horizon:g} epochs), so it would never act; move it or raise schedule.horizon"
            )
    return plan


def learning_rate(config: RunConfig, plan: Plan, step: int) -> float:
    """Return the learning rate of a step.

    Warm-up over W steps: peak k / (W - 1) (`zero`) or peak (k + 1) / W (`first_step`), k = 0 .. W - 1.
    Cosine over the T steps left: f + (peak - f)(1 + cos(pi t / T)) / 2, f = final * peak, t = 0 .. T - 1.
    Step: peak * factor^(milestones reached), counted from the start, warm-up included.
    Past the horizon the last value holds.

    Args:
        config: the run.
        plan: its lengths.
        step: optimizer steps taken before this one.

    Source: MEC `cosine_scheduler` (`zero`), W-MSE `train.py` (`first_step`, step).
    """
    schedule = config.schedule
    peak = config.optimizer.peak_lr(plan.batch_size)
    warmup = plan.steps(schedule.warmup)
    if step < warmup:
        if schedule.warmup_from == "zero":
            return peak * step / (warmup - 1) if warmup > 1 else 0.0
        return peak * (step + 1) / warmup
    if schedule.name == "cosine":
        length = max(1, plan.horizon_steps - warmup)
        done = min(step - warmup, length) / length
        final = schedule.final * peak
        return final + (peak - final) * (1.0 + math.cos(math.pi * done)) / 2.0
    reached = sum(step >= plan.steps(milestone) for milestone in schedule.milestones)
    return peak * schedule.factor**reached


def describe(config: RunConfig, plan: Plan) -> list[str]:
    """Return the resolved numbers of a run's schedules, one line each, as printed at its start."""
    schedule = config.schedule
    warmup = plan.steps(schedule.warmup)
    lines = [
        f"{plan.steps_per_epoch} steps per epoch of {plan.batch_size} images, {config.train.epochs} epochs "
        f"of a horizon of {config.horizon:g} ({plan.horizon_steps} steps)",
        f"learning rate {config.optimizer.peak_lr(plan.batch_size):g} at its peak, {schedule.name}, "
        f"warm-up {warmup} steps ({warmup / plan.steps_per_epoch:.3g} epochs)",
    ]
    if schedule.milestones:
        steps = [plan.steps(milestone) for milestone in schedule.milestones]
        lines.append(
            f"milestones at epochs {', '.join(f'{at / plan.steps_per_epoch:g}' for at in steps)}, "
            f"each times {schedule.factor:g}"
        )
    return lines
