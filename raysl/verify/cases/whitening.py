"""W-MSE, CW-RGP and the other whitenings of CW-RGP's authors."""

from __future__ import annotations

import torch
from torch import Tensor

from raysl.losses.cw_rgp import covariance_loss, cw_rgp_loss
from raysl.losses.pairs import pair_distance
from raysl.losses.rows import unit_rows
from raysl.losses.w_mse import w_mse_loss
from raysl.losses.whitening import Whitening, sub_batches, whiten
from raysl.verify.reference import Case, Compute, Values


def _views(inputs: Values) -> list[Tensor]:
    return [inputs[role] for role in sorted(inputs) if role[0] == "h" and role[1:].isdigit()]


def _whiten_batch(case: Case, inputs: Values) -> Values:
    given = case.hyperparameters
    return {"y": whiten(inputs["x"][None], kind="cholesky", eps=given["eps"]).y_bnd[0]}


def _w_mse(case: Case, inputs: Values) -> Values:
    given = case.hyperparameters
    loss = w_mse_loss(
        _views(inputs),
        permutations=inputs["perms"],
        w_size=given["w_size"],
        eps=given["w_eps"],
        norm=given["norm"],
    )
    return {"loss": loss.total}


def _whiten_family(case: Case, inputs: Values) -> Values:
    given, kind = case.hyperparameters, _kind(case.id.split("/white_")[1].split("_")[0])
    y_nd = whiten(
        inputs["x"][None],
        kind=kind,
        axis=given["axis"],
        groups=given["group"],
        eps=given["eps"],
        minus=given["minus"],
        channels_bd=inputs["shuffle"][None] if "shuffle" in inputs else None,
    ).y_bnd[0]
    if kind != "pca":
        return {"y": y_nd}
    # A component has no sign of its own. Theirs is taken over, and the gradient is that of sum(y^2 W).
    return {"y": _signed_as(y_nd.detach(), case, inputs), "objective": _weighed(y_nd.square())}


def _kind(name: str) -> Whitening:
    kinds: dict[str, Whitening] = {"ZCA": "zca", "PCA": "pca", "Cholesky": "cholesky"}
    return kinds[name]


def _weighed(y: Tensor) -> Tensor:
    return (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).to(y.dtype).view_as(y)).sum()


def _signed_as(y_nd: Tensor, case: Case, inputs: Values) -> Tensor:
    """Turn every component of a PCA - a row (axis 0) or column (axis 1) of a group - as the stored one."""
    theirs_nd = case.tensors("output")["y"].to(y_nd.dtype)
    channels, groups = y_nd.shape[1], case.hyperparameters["group"]
    order = inputs["shuffle"].long() if "shuffle" in inputs else torch.arange(channels)
    turned_nd = torch.empty_like(y_nd)
    for part in order.view(groups, -1):
        across = 1 if case.hyperparameters["axis"] == 0 else 0
        sign = (y_nd[:, part] * theirs_nd[:, part]).sum(across, keepdim=True).sign()
        turned_nd[:, part] = y_nd[:, part] * sign
    return turned_nd


def _method(whitening: Whitening) -> Compute:
    """CW-RGP's loop with another whitening, compared by direction."""

    def compute(case: Case, inputs: Values) -> Values:
        given = case.hyperparameters
        random_groups = given.get("rand_group", True) and whitening in ("zca", "cholesky")
        eps, minus = given.get("w_eps", 0), given.get("minus", 1)
        if whitening == "standardize":
            # Batch normalisation adds eps to the biased variance; but for a common factor, which directions
            # do not see, that is our shrinkage by eps / (1 + eps).
            eps, minus = eps / (1 + eps), 0
        loss = cw_rgp_loss(
            _views(inputs),
            permutations=inputs["perm_batch"],
            w_size=given["w_size"],
            channel_permutations=inputs["perm_channel"] if random_groups else None,
            whitening=whitening,
            axis=given.get("axis", 0),
            groups=given["group"],
            eps=eps,
            minus=minus,
            norm=given.get("norm", True),
            cov_weight=given.get("cov_w", 0.0),
            # Theirs is over all rows of a GPU.
            cov_size=given.get("bs"),
        )
        return {"loss": loss.total}

    return compute


def _method_pca(case: Case, inputs: Values) -> Values:
    """PCA whitening, whose loss hangs on the signs that LAPACK happened to give the components.

    The loss is linear in the product s of the two views' signs of each component, so that the stored gradient
    determines s by least squares; the value, which is not used for that, is then compared.
    """
    views, given = _views(inputs), case.hyperparameters
    x_bnd = sub_batches(torch.stack(views), inputs["perm_batch"], given["w_size"])
    y_vbnd = torch.stack(whiten(x_bnd, kind="pca", eps=given["w_eps"]).y_bnd.chunk(2))
    u_vbnd = torch.stack([unit_rows(y_bnd.flatten(0, 1)).view_as(y_bnd) for y_bnd in y_vbnd])
    agreement_bd = -2 * u_vbnd.prod(0).sum(1) / given["bs"]
    theirs = case.tensors("gradient")["grad_h0"].to(x_bnd.dtype).flatten()
    slopes = [
        torch.autograd.grad(a, views[0], retain_graph=True)[0].flatten() for a in agreement_bd.flatten()
    ]
    signs = torch.linalg.lstsq(torch.stack(slopes, 1), theirs[:, None]).solution.sign()
    turned_vbnd = torch.stack([y_vbnd[0] * signs.view_as(agreement_bd)[:, None, :], y_vbnd[1]])
    return {"loss": pair_distance(turned_vbnd.flatten(1, 2), norm=True)}


def _covariance(case: Case, inputs: Values) -> Values:
    return {"loss": covariance_loss(inputs["x"][None], axis=case.hyperparameters["axis"])}


COMPUTE: dict[str, Compute] = {
    "03_wmse/whiten_": _whiten_batch,
    "03_wmse/wmse_": _w_mse,
    "05_cwrgp_family/white_": _whiten_family,
    "05_cwrgp_family/cwrgp_": _method("zca"),
    "05_cwrgp_family/method_wmse": _method("cholesky"),
    "05_cwrgp_family/method_pca": _method_pca,
    "05_cwrgp_family/method_bn": _method("standardize"),
    "05_cwrgp_family/method_plain": _method("none"),
    "05_cwrgp_family/covloss": _covariance,
    "05b_cwrgp_imagenet/cwrgp_in_": _method("zca"),
}
COVERS = {
    "w_mse": ("03_wmse/whiten_", "03_wmse/wmse_", "05_cwrgp_family/method_wmse"),
    "cw_rgp": tuple(start for start in COMPUTE if not start.startswith("03_") and "wmse" not in start),
}
