"""Fixed representations of images, without parameters, that an embedding is compared with."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raysl.config.base import Config
from raysl.models.representations.local import (
    cosine_transform,
    gradient_histograms,
    local_std,
    split_patches,
)
from raysl.models.representations.scattering import scattering_transform

Representation = Literal[
    "pixels",
    "scattering",
    "hog",
    "local_std",
    "dct",
    "patch_scattering",
    "augmented",
    "augmented_scattering",
    "augmented_hog",
    "augmented_local_std",
]
"""Names of representations; those that begin with `augmented` are of an augmented image."""

_AUGMENTED = "augmented"


class RepresentationOptions(Config):
    """Sizes of the representations that have any."""

    hog_bins: int = Field(default=24, ge=2, le=360)
    """Orientations of `hog` over half a turn."""

    hog_pool: int = Field(default=8, ge=1, le=512)
    """Side of a cell of `hog` in pixels."""

    scattering_scales: int = Field(default=2, ge=1, le=8)
    """J, octaves of `scattering`; its maps are 2^J times smaller than the image."""

    scattering_angles: int = Field(default=8, ge=2, le=32)
    """L, directions of the wavelets of `scattering`."""

    patches: int = Field(default=4, ge=1, le=64)
    """Patches in a row and in a column of `patch_scattering`."""


def of_augmented(name: Representation) -> bool:
    """Tell whether a representation is one of an augmented image."""
    return name.startswith(_AUGMENTED)


@torch.no_grad()
def represent(
    name: Representation,
    images: Tensor,
    options: RepresentationOptions,
    *,
    reference_exact: bool = False,
) -> Tensor:
    """Return a representation of each image, on the scale at which it is compared; no gradient.

    In float32 under autocast; float64 stays. A row depends on its own image only.

    Args:
        name: which one.
        images: normalised images `(N, C, H, W)`: augmented ones where the name says so.
        options: its sizes.
        reference_exact: the authors' votes of `hog` (see `gradient_histograms`).

    Returns:
        `(N, D)`.

    Raises:
        InputError: images that are too small for it.

    Source: the code's `SelfSupervisedModule._step_dc`, which divides pixels and `scattering` by 32, and the
    others not.
    """
    images = images if images.dtype == torch.float64 else images.float()
    with torch.autocast(images.device.type, enabled=False):
        kind = name.removeprefix(f"{_AUGMENTED}_")
        if kind in ("pixels", _AUGMENTED):
            values = images / 32
        elif kind == "hog":
            values = gradient_histograms(
                images, options.hog_bins, options.hog_pool, reference_exact=reference_exact
            )
        elif kind == "local_std":
            values = local_std(images)
        elif kind == "dct":
            values = cosine_transform(images)
        elif kind == "patch_scattering":
            patches = split_patches(images, options.patches, options.patches)
            flat = scattering_transform(
                patches.flatten(0, 1), options.scattering_scales, options.scattering_angles
            )
            values = flat.view(len(images), -1)
        else:
            values = scattering_transform(images, options.scattering_scales, options.scattering_angles)
            values = values / 32 if name == "scattering" else values
    return values.flatten(1)
