"""Reference cases of MV-MR: distance correlation, representations of images, the whole loss."""

from __future__ import annotations

from raysl.losses.mv_mr import centred_distances, distance_correlation, mv_mr_loss
from raysl.models.representations import Representation, RepresentationOptions, of_augmented, represent
from raysl.models.representations.local import gradient_histograms, local_std, split_patches
from raysl.verify.reference import Case, Compute, Values

_NAMES: dict[str, Representation] = {
    "full_img": "pixels",
    "full_img_scatnet": "scattering",
    "full_img_augment": "augmented",
    "full_img_hog": "hog",
    "full_img_std": "local_std",
    "aug_hog": "augmented_hog",
    "aug_scatnet": "augmented_scattering",
}
"""The authors' names of representations."""


def _distance_correlation(case: Case, inputs: Values) -> Values:
    x_nn, z_nn = centred_distances(inputs["x"]), centred_distances(inputs["z"])
    return {"dcor": distance_correlation(x_nn, z_nn, reference_exact=True)}


def _histograms(case: Case, inputs: Values) -> Values:
    bins, pool = case.hyperparameters["nbins"], case.hyperparameters["pool"]
    # The authors' layer takes images of one channel.
    return {"hog": gradient_histograms(inputs["im"], bins, pool, reference_exact=True)[:, 0]}


def _representation(case: Case, inputs: Values) -> Values:
    name = _NAMES[case.id.rpartition("/rep_")[2]]
    image = inputs["im_aug"] if of_augmented(name) else inputs["im"]
    return {"feat": represent(name, image, RepresentationOptions(), reference_exact=True)}


def _patches(case: Case, inputs: Values) -> Values:
    down, across = case.hyperparameters["n_h"], case.hyperparameters["n_w"]
    return {"patches": split_patches(inputs["im"], down, across)}


def _local_std(case: Case, inputs: Values) -> Values:
    return {"std": local_std(inputs["im"])}


def _loss(case: Case, inputs: Values) -> Values:
    values = case.hyperparameters
    options = RepresentationOptions(
        hog_bins=values["hog"]["nbins"],
        hog_pool=values["hog"]["pool"],
        scattering_scales=values["scatnet"]["J"],
        scattering_angles=values["scatnet"]["L"],
    )
    names = {role: _NAMES[role.removeprefix("part_DC_")] for role in case.arrays if "_full_img" in role}
    images = {role: inputs["im_aug" if of_augmented(name) else "im_orig"] for role, name in names.items()}
    loss = mv_mr_loss(
        inputs["z_orig"],
        inputs["z"],
        (
            (role, represent(name, images[role], options, reference_exact=True))
            for role, name in names.items()
        ),
        margin=values["std_margin"],
        normalize=values["normalize_z"],
        maximize=False,
        reference_exact=True,
    )
    parts = {"part_MSE": loss.mse, "part_STD": loss.std, "part_DC_zz": loss.views}
    return {"loss": loss.total, **parts, **loss.representations}


COMPUTE: dict[str, Compute] = {
    "07_mvmr/dcor_": _distance_correlation,
    "07_mvmr/hog_": _histograms,
    "07_mvmr/rep_": _representation,
    "07_mvmr/patches": _patches,
    "07_mvmr/std_const": _local_std,
    "07_mvmr/selfstep_": _loss,
}
COVERS = {
    "mv_mr": (
        "07_mvmr/dcor_",
        "07_mvmr/hog_",
        "07_mvmr/rep_",
        "07_mvmr/patches",
        "07_mvmr/std_const",
        "07_mvmr/selfstep_",
    ),
    "mv_mr_distill": ("07_mvmr/dcor_",),
}
