"""Random numbers without state: each is a hash of what it is for.

A draw depends on (seed, epoch, view, operation, image id, index) and on nothing else, so it is the same for
any number of workers, any slice of a batch and any device, and training can continue from the middle of an
epoch. They are computed in NumPy on the host: there are only a few per image, and knowing them there spares
the device a wait.

Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def mix(values: Ids) -> Ids:
    """Return SplitMix64's finaliser of each value: a bijection that scatters every input bit.

    Args:
        values: (...) unsigned 64-bit integers, at least one dimension.
    """
    z = values + _GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key(*parts: int) -> Ids:
    """Return a (1,) key that names a stream of draws, such as (purpose, seed, epoch, view, operation)."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = mix(state ^ mix(np.array([part & _MASK], np.uint64)))
    return state


def uniform(stream: Ids, ids: Ids, count: int) -> NDArray[np.float64]:
    """Return (N, count) draws in [0, 1) on a grid of 2^-53, the row of an image being a function of its id.

    Args:
        stream: a `key`.
        ids: (N,) image ids.
        count: draws per image.
    """
    start = mix(stream ^ mix(ids))
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return (mix(start[:, None] + steps) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(stream: Ids, size: int) -> NDArray[np.int64]:
    """Return a (size,) random order of 0 ... size - 1 that is a function of the `key` alone."""
    return np.argsort(mix(stream ^ mix(np.arange(size, dtype=np.uint64))), kind="stable")
