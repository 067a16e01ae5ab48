"""Matrix-SSL's reference cases: the logarithm, the cross-entropy and the whole loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.losses.matrix_ssl import (
    cross_covariance,
    matrix_log,
    matrix_ssl_loss,
    trace_log,
    trace_product_log,
)
from raysl.verify.reference import Case, Compute, Values


def _matrix_log(case: Case, inputs: Values) -> Values:
    return {"logQ": matrix_log(inputs["Q"], case.hyperparameters["order"])}


def _matrix_cross_entropy(case: Case, inputs: Values) -> Values:
    p, z, h = inputs["p"], inputs["z"], case.hyperparameters
    shift = h["mu"] * torch.eye(h["d"], dtype=p.dtype)
    if h["correlation"]:
        return {"loss": -h["lamda"] * trace_log(cross_covariance(p, z) + shift, h["order"])}
    target, own = cross_covariance(p, p) + shift, cross_covariance(z, z) + shift
    return {"loss": -trace_product_log(target, own, h["order"])}


def _matrix_ssl(case: Case, inputs: Values) -> Values:
    h = case.hyperparameters
    loss = matrix_ssl_loss(
        [inputs["p1"], inputs["p2"]],
        [inputs["z1"], inputs["z2"]],
        lam=h["mce_lambd"],
        mu=h["mce_mu"],
        gamma=h["gamma"],
        order=h["mce_order"],
    )
    return {"loss": loss.total}


def _matrix_ssl_with_hsic(case: Case, inputs: Values) -> Values:
    """Add the HSIC term of an early version of the authors' code, which raysl does not have.

    They dropped it with the flag that switched it; the vectors still check the rest of the loss. It sat
    inside the function called for correlation and again for alignment, so each direction carries it twice.
    """
    m: int = case.hyperparameters["N"]

    def term(p: Tensor, z: Tensor) -> Tensor:
        centre = torch.eye(m, dtype=p.dtype) - 1 / m
        p, z = F.normalize(p), F.normalize(z)
        hsic: Tensor = (p @ p.T @ centre @ z @ z.T @ centre).trace() / m**2
        return hsic

    both = term(inputs["p2"], inputs["z1"]) + term(inputs["p1"], inputs["z2"])
    loss = _matrix_ssl(case, inputs)["loss"]
    return {"loss": loss - case.hyperparameters["align_gamma"] * both}


COMPUTE: dict[str, Compute] = {
    "02_matrix_ssl/mlog_": _matrix_log,
    "02_matrix_ssl/mce_": _matrix_cross_entropy,
    "02_matrix_ssl/train_": _matrix_ssl,
    "02_matrix_ssl/train_hsic_old": _matrix_ssl_with_hsic,
}
COVERS = {
    "matrix_ssl": (
        "02_matrix_ssl/mlog_",
        "02_matrix_ssl/mce_",
        "02_matrix_ssl/train_",
        "02_matrix_ssl/train_hsic_old",
    ),
}
