"""SimCLR's reference cases, and the momentum teacher's."""

from __future__ import annotations

import torch
from torch import nn

from raysl.losses.contrastive import nt_xent_loss
from raysl.methods import simclr
from raysl.methods.base import LossReport, Plan, Step
from raysl.models.backbones import Backbone
from raysl.models.momentum import MomentumTeacher
from raysl.verify.reference import Case, Compute, Values


def _nt_xent(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    return {"loss": nt_xent_loss([inputs["x0"], inputs["x1"]], temperature=h["tau"], normalize=h["norm"])}


def _contrastive(case: Case, inputs: Values) -> Values:
    """Run the whole method from features on: its projector is the joint normalisation alone."""
    h = case.hyperparameters
    views = [inputs[f"h{view}"] for view in range(h["num_samples"])]
    plan = Plan(len(views[0]), steps_per_epoch=1, horizon_steps=1)
    config = simclr.Config(temperature=h["tau"], normalize=h["norm"])
    method = simclr.Method(config, Backbone(nn.Identity(), h["emb"], image_channels=1), plan)
    method.projector = nn.Sequential(nn.BatchNorm1d(h["emb"], dtype=views[0].dtype))
    tensors = dict(method.named_buffers()) | {
        "projector.0.weight": inputs["bn_weight"],
        "projector.0.bias": inputs["bn_bias"],
    }
    report: LossReport = torch.func.functional_call(method, tensors, (views, Step(0, plan, seed=0)))
    return {
        "loss": report.loss,
        "bn_running_mean": tensors["projector.0.running_mean"],
        "bn_running_var": tensors["projector.0.running_var"],
    }


def _momentum(case: Case, inputs: Values) -> Values:
    outputs_n, inputs_n = inputs["target"].shape
    student = nn.Linear(inputs_n, outputs_n, bias=False, dtype=inputs["target"].dtype)
    student.weight.data.copy_(inputs["target"])
    teacher = MomentumTeacher(student)
    student.weight.data.copy_(inputs["online"])
    teacher.update(case.hyperparameters["tau"])
    return {"target_after": next(teacher.parameters())}


COMPUTE: dict[str, Compute] = {
    "04_contrastive_byol/nce_": _nt_xent,
    "04_contrastive_byol/contrastive_": _contrastive,
    "04_contrastive_byol/byol_update": _momentum,
}
COVERS = {
    "simclr": ("04_contrastive_byol/nce_", "04_contrastive_byol/contrastive_"),
    "byol": ("04_contrastive_byol/byol_update",),
}
