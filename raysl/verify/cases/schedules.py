"""Learning rates, weight decays and momenta of every step, of every schedule the authors have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raysl.methods.base import Plan, cosine_momentum
from raysl.train.config import OptimizerConfig, ScheduleConfig
from raysl.train.schedules import rate, weight_decay
from raysl.verify.reference import Case, Compute, Values


def _curve(schedule: ScheduleConfig, peak: float, plan: Plan, steps: Sequence[int]) -> Tensor:
    return torch.tensor([rate(schedule, peak, plan, step) for step in steps], dtype=torch.float64)


def _plan(epochs: int, steps_per_epoch: int) -> Plan:
    return Plan(256, steps_per_epoch, epochs * steps_per_epoch)


def _momenta(base: float, plan: Plan) -> Tensor:
    steps = range(plan.horizon_steps)
    values = [cosine_momentum(base, step / plan.horizon_steps) for step in steps]
    return torch.tensor(values, dtype=torch.float64)


def _mec(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    plan = _plan(h["epochs"], h["niter_per_ep"])
    schedule = ScheduleConfig(warmup=h["warmup_epochs"], warmup_from="zero")
    lr = _curve(schedule, h["init_lr"], plan, range(plan.horizon_steps))
    return {"lr": lr, "momentum": _momenta(h["teacher_momentum"], plan)}


def _mec_probe(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    peak = OptimizerConfig(lr=h["lr"], lr_scaling="linear").peak_lr(h["batch"])
    return {"lr": _curve(ScheduleConfig(by="epoch"), peak, _plan(h["epochs"], 1), range(h["epochs"]))}


def _sampled(epochs: int, iterations: int) -> list[int]:
    """Return the steps that the W-MSE family's curves are stored at."""
    dense = range(6 * iterations)
    edges = [epoch * iterations + i for epoch in range(6, epochs) for i in (0, iterations - 1)]
    return [*dense, *edges]


def _w_mse(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    iterations = h.get("iters_per_epoch") or h["iters"]
    drops = h.get("drop", [50, 25])
    plan = _plan(h["epochs"], iterations)
    name = case.id.partition("/")[2]
    schedule = (
        ScheduleConfig(name="constant", warmup="500 steps")
        if name.startswith("lr_none")
        else ScheduleConfig(
            name="step",
            warmup="500 steps",
            milestones=tuple(-drop for drop in drops),
            factor=h.get("gamma", 0.2),
        )
    )
    return {"lr": _curve(schedule, h["lr"], plan, _sampled(h["epochs"], iterations))}


def _cw_rgp_imagenet(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    iterations = h["iters"]
    peak = OptimizerConfig(lr=h["lr"], lr_scaling="linear").peak_lr(h["bs"])
    later = [e * iterations + i for e in range(1, h["epochs"]) for i in (0, 1, iterations - 1)]
    steps = [*range(510), iterations - 1, *later]
    schedule = ScheduleConfig(by="epoch", warmup="500 steps")
    return {"lr": _curve(schedule, peak, _plan(h["epochs"], iterations), steps)}


def _intl(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    plan = _plan(h["epochs"], h["niter_per_ep"] if "niter_per_ep" in h else h["niter"])
    schedule = ScheduleConfig(warmup=h["warmup_eps"], final=0.001, final_at="last_step")
    peak = OptimizerConfig(lr=h["lr"], lr_scaling="linear").peak_lr(h["bs"])
    lr = _curve(schedule, peak, plan, range(plan.horizon_steps))
    return {"lr": lr, "momentum": _momenta(h["m0"], plan)}


def _intl_semi(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    plan, epochs = _plan(h["epochs"], 1), range(h["epochs"])
    peaks = (h["lr_classifier"], h["lr_backbone"])
    return {"lr": torch.stack([_curve(ScheduleConfig(by="epoch"), p, plan, epochs) for p in peaks], dim=1)}


def _restarts(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    schedule = ScheduleConfig(
        name="cosine_restarts",
        warmup=f"{h['warmup_steps']} steps",
        cycle=f"{h['first_cycle_steps']} steps",
        cycle_factor=h["cycle_mult"],
        cycle_decay=h["gamma"],
        final=h["min_lr"] / h["max_lr"],
    )
    (steps,) = case.arrays["lr"]["shape"]
    return {"lr": _curve(schedule, h["max_lr"], Plan(256, 1, steps), range(steps))}


def _weight_decay(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    (calls,) = case.arrays["wd"]["shape"]
    length = h["T_max"]
    # Theirs turns back after its last step, which their training never reaches; ours stays.
    steps = [min(call, 2 * length - call) for call in range(1, calls + 1)]
    config = OptimizerConfig(weight_decay=h["ref_wd"], weight_decay_final=h["final_wd"])
    values = [weight_decay(config, Plan(256, 1, length), step) for step in steps]
    return {"wd": torch.tensor(values, dtype=torch.float64)}


COMPUTE: dict[str, Compute] = {
    "01_mec/sched_": _mec,
    "01_mec/lincls_lr": _mec_probe,
    "04_contrastive_byol/lr_": _w_mse,
    "05_cwrgp_family/lr_": _w_mse,
    "05b_cwrgp_imagenet/lr_imagenet": _cw_rgp_imagenet,
    "06_intl/sched_": _intl,
    "06_intl/semi_cos_lr": _intl_semi,
    "07_mvmr/cosrestart_": _restarts,
    "07_mvmr/coswd_": _weight_decay,
}
COVERS = {
    "mec": ("01_mec/sched_",),
    "matrix_ssl": ("01_mec/sched_",),
    "w_mse": ("04_contrastive_byol/lr_",),
    "cw_rgp": ("05_cwrgp_family/lr_", "05b_cwrgp_imagenet/lr_imagenet"),
    "intl": ("06_intl/sched_",),
    "intl_m": ("06_intl/sched_",),
    "mv_mr": ("07_mvmr/cosrestart_", "07_mvmr/coswd_"),
}
