"""Barlow Twins and VICReg, as the CW-RGP authors' copies have them."""

from __future__ import annotations

import torch.nn.functional as F

from raysl.losses.redundancy import barlow_twins_loss, vicreg_loss
from raysl.verify.reference import Case, Compute, Values


def _barlow(case: Case, inputs: Values) -> Values:
    """The case standardises by one affine batch normalisation, which our projector ends in."""
    first, second = (
        F.batch_norm(inputs[name], None, None, inputs["bn_weight"], inputs["bn_bias"], training=True)
        for name in ("z1", "z2")
    )
    loss = barlow_twins_loss(
        first,
        second,
        lam=case.hyperparameters["barlow_lambda"],
        standardize=False,
        reference_exact=True,
    )
    return {"loss": loss.total}


def _vicreg(case: Case, inputs: Values) -> Values:
    loss = vicreg_loss(
        inputs["z1"],
        inputs["z2"],
        invariance=case.hyperparameters["sim"],
        variance=case.hyperparameters["var"],
        covariance=case.hyperparameters["cov"],
        reference_exact=True,
    )
    return {
        "loss": loss.total,
        "sim": loss.invariance,
        "var": loss.variance,
        "cov": loss.covariance,
    }


COMPUTE: dict[str, Compute] = {
    "05_cwrgp_family/barlow_": _barlow,
    "05_cwrgp_family/vicreg_": _vicreg,
}
COVERS = {
    "barlow_twins": ("05_cwrgp_family/barlow_",),
    "vicreg": ("05_cwrgp_family/vicreg_",),
}
