"""Every method on 2 and 4 workers against one: one start of the processes for all of them.

`pytest -s` shows what was measured.
"""

from __future__ import annotations

import pytest

from raysl import methods
from raysl.verify.sample import sample_config
from raysl.verify.workers import Difference, compare_workers

SIZES = (2, 4)
NAMES = methods.method_names()


@pytest.fixture(scope="module")
def differences() -> dict[str, list[Difference]]:
    return compare_workers({name: sample_config(name) for name in NAMES}, SIZES)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("method", NAMES)
def test_a_method_does_not_depend_on_the_number_of_workers(
    method: str, differences: dict[str, list[Difference]]
) -> None:
    found = differences[method]
    assert [(one.workers, one.precision) for one in found] == [
        (size, precision) for precision in ("float64", "float32") for size in SIZES
    ]
    for one in found:
        print(f"\n{one}")
        assert one.error is None
        assert one.passed, one
