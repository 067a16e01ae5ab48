"""BYOL and SimSiam: losses, and the momentum of BYOL's target network."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from raysl.losses.asymmetric import byol_loss, simsiam_loss
from raysl.losses.pairs import pair_distance
from raysl.methods.base import cosine_momentum
from raysl.verify.reference import Case, Compute, Values


def _norm_mse(case: Case, inputs: Values) -> Values:
    return {"loss": pair_distance(torch.stack([inputs["x0"], inputs["x1"]]), norm=True)}


def _byol(case: Case, inputs: Values) -> Values:
    views = range(case.hyperparameters["num_samples"])
    predictions = [inputs[f"z{view}"] for view in views]
    targets = [inputs[f"zt{view}"] for view in views]
    return {"loss": byol_loss(predictions, targets, normalize=case.hyperparameters["norm"])}


def _momentum(case: Case, inputs: Values) -> Values:
    base = case.hyperparameters["byol_tau"]
    values = [cosine_momentum(base, progress) for progress in inputs["progress"].tolist()]
    return {"tau": torch.tensor(values, dtype=torch.float64)}


def _simsiam(case: Case, inputs: Values) -> Values:
    """The case's predictor is one linear layer, applied here."""
    embeddings = [inputs["z1"], inputs["z2"]]
    predictions = [F.linear(z_nd, inputs["W"], inputs["b"]) for z_nd in embeddings]
    return {"loss": simsiam_loss(predictions, embeddings)}


COMPUTE: dict[str, Compute] = {
    "04_contrastive_byol/norm_mse_": _norm_mse,
    "04_contrastive_byol/byol_ns": _byol,
    "04_contrastive_byol/byol_tau": _momentum,
    "05_cwrgp_family/simsiam": _simsiam,
}
COVERS = {
    "byol": ("04_contrastive_byol/byol_ns", "04_contrastive_byol/byol_tau"),
    "w_mse": ("04_contrastive_byol/norm_mse_",),
    "simsiam": ("05_cwrgp_family/simsiam",),
}
