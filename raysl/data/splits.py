"""Which of the training images are used, and which of those are held out.

Both are functions of what the images are (a hash of each one's bytes) and of a seed: never of the order of
rows, of the number of workers or of the feed. Equal images stay on one side, and so do whole groups.

N images, U units: sets of images that must not be divided.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysl.data.config import SelectionConfig, SubsetConfig
from raysl.data.draws import Ids, key, mix
from raysl.errors import InputError

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

_SELECTION = 0x5E1EC7
_SUBSET = 0x5B5E7


def in_selection(ids: Ids, config: SelectionConfig, groups: Codes | None = None) -> Mask:
    """Return which images are held out for selection.

    Units are ranked by a hash of their images' ids and the first ones are taken.

    Args:
        ids: (N,) ids of the training images.
        config: how many to hold out.
        groups: (N,) numbers of the groups that stay whole.

    Returns:
        (N,) booleans; at most min(fraction N, maximum) are true, at least one unit where fraction is not 0.
    """
    wanted = min(round(config.fraction * len(ids)), config.maximum)
    unit_ids, unit, counts = _units(ids, groups)
    if config.fraction == 0 or len(unit_ids) < 2:
        return np.zeros(len(ids), np.bool_)
    return _first(unit_ids, unit, counts, wanted, key(_SELECTION, config.seed))


def in_subset(
    ids: Ids, config: SubsetConfig, labels: Codes | None = None, groups: Codes | None = None
) -> Mask:
    """Return which images belong to a subset; with one seed, a smaller one is part of a larger one.

    Args:
        ids: (N,) ids of all training images.
        config: how many, and what is drawn: images, images of each class, or whole groups.
        labels: (N,) classes.
        groups: (N,) numbers of groups.

    Returns:
        (N,) booleans.

    Raises:
        InputError: more images are asked for than there are, or labels or groups that are not there.
    """
    if config.n is not None and config.n > len(ids):
        raise InputError(f"data.subset.n = {config.n}: there are {len(ids)} training images; ask for fewer")
    if config.group == "class" and labels is None:
        raise InputError("data.subset.group = class: the images have no labels; use image, or give labels")
    if config.group == "whole" and groups is None:
        raise InputError(
            "data.subset.group = whole: name the column of the groups as data.group, or use image or class"
        )
    wanted, stream = subset_size(config, len(ids)), key(_SUBSET, config.seed)
    if config.group != "class" or labels is None:
        return _first(*_units(ids, groups if config.group == "whole" else None), wanted, stream)
    return _of_each_class(ids, labels, wanted, stream)


def subset_size(config: SubsetConfig | None, images: int) -> int:
    """Return how many of a number of images a subset asks for."""
    if config is None:
        return images
    if config.n is not None:
        return min(config.n, images)
    return max(1, round((config.fraction or 1.0) * images))


def describe_groups(column: str, groups: Codes, held: Mask) -> str:
    """Return a line that says how many groups are on each side, given which images are held out."""
    sides = [len(np.unique(groups[side])) for side in (~held, held)]
    return f"groups of '{column}' stay whole: {sides[0]} to train on, {sides[1]} held out"


def _units(ids: Ids, groups: Codes | None) -> tuple[Ids, Codes, Codes]:
    """Return the id of each unit (U,), the unit of each image (N,) and the images of each unit (U,).

    A unit is the images with one id; with groups, those that are linked by equal ids or a common group.
    """
    unique, image, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if groups is None:
        return unique, image.astype(np.int64), counts.astype(np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(groups, return_inverse=True)
    nodes = len(unique) + len(names)
    links = coo_array((np.ones(len(ids), np.int8), (image, group + len(unique))), shape=(nodes, nodes))
    count, component = connected_components(links, directed=False)
    unit_ids = np.zeros(count, np.uint64)
    # The sum over different images depends neither on their order nor on how often each one is there.
    np.add.at(unit_ids, component[: len(unique)], unique)
    unit = component[: len(unique)][image].astype(np.int64)
    return unit_ids, unit, np.bincount(unit, minlength=count).astype(np.int64)


def _first(unit_ids: Ids, unit: Codes, counts: Codes, wanted: int, stream: Ids) -> Mask:
    """Return the images of the first units, by a hash of their ids, that together are at most `wanted`."""
    order = np.argsort(mix(unit_ids ^ stream), kind="stable")
    taken = np.cumsum(counts[order]) <= wanted
    taken[0] = True
    chosen = np.zeros(len(unit_ids), np.bool_)
    chosen[order] = taken
    return np.asarray(chosen[unit], np.bool_)


def _of_each_class(ids: Ids, labels: Codes, wanted: int, stream: Ids) -> Mask:
    """Return `wanted` images, of every class the same share.

    Images are ranked within their class, and each class is gone through at a pace in proportion to its size.
    """
    places, sizes, members = [], [], []
    for number in np.unique(labels):
        rows = np.flatnonzero(labels == number)
        unit_ids, unit, counts = _units(ids[rows], None)
        order = np.argsort(mix(unit_ids ^ stream), kind="stable")
        places.append((np.cumsum(counts[order]) - counts[order] / 2) / len(rows))
        sizes.append(counts[order])
        by_unit = np.argsort(unit, kind="stable")
        parts = np.split(rows[by_unit], np.cumsum(counts)[:-1])
        members += [parts[position] for position in order]
    order = np.argsort(np.concatenate(places), kind="stable")
    taken = order[np.cumsum(np.concatenate(sizes)[order]) <= wanted]
    chosen = np.zeros(len(ids), np.bool_)
    for position in taken if len(taken) else order[:1]:
        chosen[members[position]] = True
    return chosen
