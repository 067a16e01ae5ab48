"""Draws are functions of what they are for, and look random."""

from __future__ import annotations

import numpy as np
import pytest

from raysl.data.draws import key, mix, permutation, uniform


def test_mix_is_splitmix64() -> None:
    # The first outputs of the published generator seeded with 1234567.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + step * gamma) % 2**64 for step in range(3)], np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_rows_depend_on_their_id_alone() -> None:
    ids = np.array([5, 0, 2**64 - 1, 7], np.uint64)
    whole = uniform(key(3, 1), ids, 6)
    assert np.array_equal(uniform(key(3, 1), ids[2:3], 6), whole[2:3])
    assert np.array_equal(uniform(key(3, 1), ids[::-1].copy(), 6), whole[::-1])
    assert np.array_equal(uniform(key(3, 1), ids, 9)[:, :6], whole)


@pytest.mark.parametrize("other", [(3, 2), (4, 1), (1, 3), (3, 1, 0), (-3, 1)])
def test_streams_differ(other: tuple[int, ...]) -> None:
    ids = np.arange(8, dtype=np.uint64)
    assert not np.isin(uniform(key(3, 1), ids, 4), uniform(key(*other), ids, 4)).any()


def test_draws_are_uniform_and_uncorrelated() -> None:
    u = uniform(key(0), np.arange(20000, dtype=np.uint64), 8)
    assert (u >= 0).all()
    assert (u < 1).all()
    # Five standard errors: 1/sqrt(12 N) for a mean, 1/sqrt(N) for a correlation.
    assert np.abs(u.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * len(u))
    assert np.abs(np.corrcoef(u.T) - np.eye(8)).max() < 5 / np.sqrt(len(u))
    counts = np.histogram(u, bins=64, range=(0, 1))[0]
    expected = u.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)


def test_permutation_holds_every_row_once() -> None:
    order = permutation(key(1), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert not np.array_equal(order, permutation(key(2), 1000))
    assert np.array_equal(order, permutation(key(1), 1000))
