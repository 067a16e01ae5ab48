"""MEC: the loss, one training step's numbers, and the schedule of lamda_inv."""

from __future__ import annotations

import torch

from raysl.losses.mec import mec_loss
from raysl.methods.mec import lamda_inv, warmed_up
from raysl.verify.reference import Case, Compute, Values


def _one_direction(case: Case, inputs: Values) -> Values:
    """The authors' `loss_func` is one direction's f, which both of ours become when given the same pair."""
    divisor = case.hyperparameters["lamda_inv"]
    loss = mec_loss(
        [inputs["p"]] * 2, [inputs["z"]] * 2, lamda_inv=divisor, order=case.hyperparameters["order"]
    )
    return {"loss": -loss.total * len(inputs["z"]) / divisor}


def _train(case: Case, inputs: Values) -> Values:
    loss = mec_loss(
        [inputs["p1"], inputs["p2"]],
        [inputs["z1"], inputs["z2"]],
        lamda_inv=case.hyperparameters["lamda_inv"],
        order=case.hyperparameters["order"],
    )
    return {"loss": loss.total, "MEC": loss.coding_length}


def _schedule(case: Case, inputs: Values) -> Values:
    values = case.hyperparameters
    final = lamda_inv(values["m"], values["d"], values["eps"])
    warmup_steps = values["warmup_epochs"] * values["niter_per_ep"]
    steps = range(values["epochs"] * values["niter_per_ep"])
    schedule = [warmed_up(final, step, warmup_steps) for step in steps]
    return {"lamda_inv": torch.tensor(schedule, dtype=torch.float64)}


COMPUTE: dict[str, Compute] = {
    "01_mec/loss_": _one_direction,
    "01_mec/train_": _train,
    "01_mec/lamda_": _schedule,
}
COVERS = {
    "mec": ("01_mec/loss_", "01_mec/train_", "01_mec/lamda_"),
}
