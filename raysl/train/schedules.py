"""The learning rate and weight decay of every step, and the plan of lengths they follow from."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

from raysl.config import in_steps
from raysl.errors import InputError
from raysl.methods.base import Plan
from raysl.train.config import OptimizerConfig, RunConfig, ScheduleConfig


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
    cycle = plan.horizon_steps if config.schedule.cycle is None else plan.steps(config.schedule.cycle)
    if config.schedule.name == "cosine_restarts" and not warmup < cycle <= plan.horizon_steps:
        raise InputError(
            f"schedule.cycle = {config.schedule.cycle!r}: {cycle} steps; use more than the warm-up's "
            f"{warmup} and at most the horizon's {plan.horizon_steps}"
        )
    for milestone in config.schedule.milestones:
        at = plan.steps(milestone)
        if not 0 < at < plan.horizon_steps:
            raise InputError(
                f"schedule.milestones: {milestone!r} is step {at} of a horizon of {plan.horizon_steps} "
                f"({config.horizon:g} epochs), so it would never act; move it or raise schedule.horizon"
            )
    for epoch in config.schedule.judged:
        at = epoch * plan.steps_per_epoch
        if not warmup < at <= plan.horizon_steps:
            raise InputError(
                f"schedule.judged: the end of epoch {epoch} is step {at}, not after the warm-up's {warmup} "
                f"and within the horizon's {plan.horizon_steps}; leave it out, shorten the warm-up or raise "
                "schedule.horizon"
            )
    return plan


def learning_rate(config: RunConfig, plan: Plan, step: int) -> float:
    """Return the learning rate of a step of a run; see `rate`.

    Args:
        config: the run.
        plan: its lengths.
        step: optimizer steps taken before this one.
    """
    return rate(config.schedule, config.optimizer.peak_lr(plan.batch_size), plan, step)


def rate(schedule: ScheduleConfig, peak: float, plan: Plan, step: int) -> float:
    """Return a schedule's value at a step.

    Warm-up over W steps: peak k / (W - 1) (`zero`) or peak (k + 1) / W (`first_step`), k = 0 .. W - 1.
    Cosine over the T steps left: f + (peak - f)(1 + cos(pi t / T)) / 2, f = final * peak, t = 0 .. T - 1, or
    t = 1 .. T (`final_at: last_step`). By epoch: T is the whole horizon and t the step its epoch began at.
    Step: peak * factor^(milestones reached), counted from the start, warm-up included.
    WSD: peak; over the L steps before each judged step peak + (f - peak)(i + 1) / (L + 1), i = 0 .. L - 1,
    which would be f one step later, where the peak is back instead.
    Past the horizon the last value holds (f of WSD).

    Args:
        schedule: its shape.
        peak: what it is at its highest.
        plan: lengths.
        step: optimizer steps taken before this one.

    Source: MEC `cosine_scheduler` (`zero`), W-MSE `train.py` (`first_step`, step), INTL `main.py`
    (`last_step`), CW-RGP's ImageNet code (by epoch), MV-MR (`cosine_restarts`). WSD: Hu et al., MiniCPM
    (arXiv 2404.06395), whose decay is exponential; Hägele et al. (arXiv 2405.18392) for the linear cooldown.
    Both branch off for it and keep the constant run apart; here training goes on from the cooled weights at
    the peak, as in the WSD-S of Wen et al. (arXiv 2410.05192).
    """
    warmup = plan.steps(schedule.warmup)
    if schedule.name == "cosine_restarts":
        return _restarted(schedule, peak, plan, step, warmup)
    if step < warmup:
        if schedule.warmup_from == "zero":
            return peak * step / (warmup - 1) if warmup > 1 else 0.0
        return peak * (step + 1) / warmup
    if schedule.name == "wsd":
        return _cooled(schedule, peak, plan, step)
    by_epoch = schedule.by == "epoch"
    if by_epoch:
        step = step // plan.steps_per_epoch * plan.steps_per_epoch
    if schedule.name == "cosine":
        start = 0 if by_epoch else warmup
        length = max(1, plan.horizon_steps - start)
        taken = step - start + (schedule.final_at == "last_step")
        return _half_cosine(peak, schedule.final * peak, min(taken, length) / length)
    reached = sum(step >= plan.steps(milestone) for milestone in schedule.milestones)
    return peak * schedule.factor**reached


def weight_decay(optimizer: OptimizerConfig, plan: Plan, step: int) -> float:
    """Return the weight decay of a step: d' + (d - d')(1 + cos(pi step / horizon)) / 2, d' the final one.

    Args:
        optimizer: both decays.
        plan: lengths.
        step: optimizer steps taken before this one.

    Source: DINO (arXiv 2104.14294), section 3; MV-MR's `CosineWDSchedule`.
    """
    start, end = optimizer.weight_decay, optimizer.weight_decay_final
    if end is None:
        return start
    return _half_cosine(start, end, min(step, plan.horizon_steps) / plan.horizon_steps)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * done)) / 2.0


def _restarted(schedule: ScheduleConfig, peak: float, plan: Plan, step: int, warmup: int) -> float:
    """Return the value of cycles: floor to peak over the warm-up (k / W), and back along half a cosine."""
    floor = schedule.final * peak
    step = min(step, plan.horizon_steps - 1)
    length = plan.horizon_steps if schedule.cycle is None else plan.steps(schedule.cycle)
    while step >= length:
        step -= length
        length = int((length - warmup) * schedule.cycle_factor) + warmup
        peak *= schedule.cycle_decay
    if step < warmup:
        return floor + (peak - floor) * step / warmup
    return _half_cosine(peak, floor, (step - warmup) / (length - warmup))


def cooldowns(schedule: ScheduleConfig, plan: Plan) -> list[tuple[int, int]]:
    """Return the cooldowns of WSD: (first step, judged step), the horizon's end last.

    Args:
        schedule: its shape.
        plan: lengths.
    """
    judged = [0, *_judged_steps(schedule, plan)]
    return [(at - _cooldown_steps(schedule, plan, before, at), at) for before, at in pairwise(judged)]


def _judged_steps(schedule: ScheduleConfig, plan: Plan) -> list[int]:
    judged = (epoch * plan.steps_per_epoch for epoch in schedule.judged)
    return [*(step for step in judged if step < plan.horizon_steps), plan.horizon_steps]


def _cooldown_steps(schedule: ScheduleConfig, plan: Plan, before: int, at: int) -> int:
    """Return the length of the cooldown between two judged steps."""
    wanted = in_steps(schedule.cooldown, steps_per_epoch=plan.steps_per_epoch, horizon_steps=at - before)
    return min(max(1, wanted), at - max(before, plan.steps(schedule.warmup)))


def _cooled(schedule: ScheduleConfig, peak: float, plan: Plan, step: int) -> float:
    """Return the value of WSD after its warm-up."""
    final = schedule.final * peak
    if step >= plan.horizon_steps:
        return final
    judged = [0, *_judged_steps(schedule, plan)]
    after = bisect_right(judged, step)
    length = _cooldown_steps(schedule, plan, judged[after - 1], judged[after])
    taken = max(0, step - (judged[after] - length) + 1)
    return peak + (final - peak) * taken / (length + 1)


def describe(config: RunConfig, plan: Plan) -> list[str]:
    """Return the resolved numbers of a run's schedules, one line each, as printed at its start."""
    schedule = config.schedule
    warmup = plan.steps(schedule.warmup)
    lines = [
        f"{plan.steps_per_epoch} steps per epoch of {plan.batch_size} images, {config.train.epochs} epochs "
        f"of a horizon of {config.horizon:g} ({plan.horizon_steps} steps)",
        f"learning rate {config.optimizer.peak_lr(plan.batch_size):g} at its peak, {schedule.name}"
        f"{' by epoch' if schedule.by == 'epoch' else ''}, "
        f"warm-up {warmup} steps ({warmup / plan.steps_per_epoch:.3g} epochs)",
    ]
    if schedule.milestones:
        steps = [plan.steps(milestone) for milestone in schedule.milestones]
        lines.append(
            f"milestones at epochs {', '.join(f'{at / plan.steps_per_epoch:g}' for at in steps)}, "
            f"each times {schedule.factor:g}"
        )
    if schedule.cycle is not None:
        lines.append(
            f"first cycle {plan.steps(schedule.cycle)} steps, each next times {schedule.cycle_factor:g}, its "
            f"peak times {schedule.cycle_decay:g}"
        )
    if schedule.name == "wsd":
        epochs = plan.steps_per_epoch
        told = [f"{at - start} steps to epoch {at / epochs:g}" for start, at in cooldowns(schedule, plan)]
        lines.append(f"cooldowns: {', '.join(told)}, each to {schedule.final:g} of the peak")
    if config.optimizer.weight_decay_final is not None:
        ends = f"{config.optimizer.weight_decay:g} to {config.optimizer.weight_decay_final:g}"
        lines.append(f"weight decay {ends} along half a cosine over the horizon")
    return lines
