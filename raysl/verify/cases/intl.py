"""Cases of INTL (arXiv 2305.16789): its whitening, its losses, their weight, and the key network's update."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysl.losses.intl import intl_loss, intl_m_loss, iterative_whitening, trace_loss, trade_off
from raysl.models.momentum import MomentumTeacher
from raysl.verify.reference import Case, Compute, Values


def _whitening(case: Case, inputs: Values) -> Values:
    given = case.hyperparameters
    return {"y": iterative_whitening(inputs["x"], axis=given["axis"], iterations=given["iterations"])}


def _trace(case: Case, inputs: Values) -> Values:
    return {"loss": trace_loss(inputs["x"], case.hyperparameters["axis"])}


def _intl(case: Case, inputs: Values) -> Values:
    given = case.hyperparameters
    views = [inputs[f"h{view}"] for view in range(given["views"])]
    # The batch of the whole job, which these cases have more of than rows.
    beta = trade_off(given["bs"], given["emb"], given["axis"])
    return {"loss": intl_loss(views, beta=beta, axis=given["axis"], iterations=given["iters"]).total}


def _intl_m(case: Case, inputs: Values) -> Values:
    given = case.hyperparameters
    queries = [inputs[f"query{view}"] for view in range(1, given["views"])]
    beta = trade_off(given["bs"], given["emb"], given["axis"])
    loss = intl_m_loss(inputs["key"], queries, beta=beta, axis=given["axis"], iterations=given["iters"])
    return {"loss": loss.total}


def _trade_off(case: Case, inputs: Values) -> Values:
    values = [
        trade_off(batch, size, 0 if axis == 0 else 1) for batch, size, axis in inputs["bs_emb_axis"].tolist()
    ]
    return {"trade_off": torch.tensor(values, dtype=torch.float64)}


def _ema(case: Case, inputs: Values) -> Values:
    student = nn.Linear(1, 1, bias=False)
    student.weight = nn.Parameter(inputs["key"].clone())
    teacher = MomentumTeacher(student)
    student.weight = nn.Parameter(inputs["query"].clone())
    teacher.update(case.hyperparameters["m"])
    moved: Tensor = next(teacher.network.parameters())
    return {"key_after": moved}


COMPUTE: dict[str, Compute] = {
    "06_intl/iternorm_": _whitening,
    "06_intl/TL_": _trace,
    "06_intl/intl_": _intl,
    "06_intl/intl_m_": _intl_m,
    "06_intl/trade_off": _trade_off,
    "06_intl/ema_update": _ema,
}
COVERS = {
    "intl": ("06_intl/iternorm_", "06_intl/TL_", "06_intl/intl_", "06_intl/trade_off"),
    "intl_m": (
        "06_intl/iternorm_",
        "06_intl/TL_",
        "06_intl/intl_m_",
        "06_intl/trade_off",
        "06_intl/ema_update",
    ),
}
