"""Reference vectors made with the authors' own code, against ours: float64 and float32, values and gradients.

`pytest tests/golden --golden-dir DIR` runs a whole directory of vectors; the committed subset always runs. A
case that nothing of ours computes fails.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysl.verify.compare import check
from raysl.verify.reference import Case, computes, kind_of, load_cases
from tests.golden.conftest import CASE

COMMITTED = Path(__file__).parent / "data"
MOST_BYTES = 2_000_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("--golden-dir")
    directories = [COMMITTED, Path(given)] if given else [COMMITTED]
    cases = [case for directory in directories for case in load_cases(directory)]
    ids = [case.id if case.directory == COMMITTED else f"{case.directory.name}:{case.id}" for case in cases]
    metafunc.parametrize("case", cases, ids=ids)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_value_and_gradient(
    case: Case, dtype: torch.dtype, record_property: Callable[[str, object], None]
) -> None:
    record_property(CASE, (str(case.directory), case.id, kind_of(case) is not None))
    outcome = check(case, dtype)
    assert outcome.values > 0, f"{case.id}: nothing to compare"
    assert outcome.passed, "\n".join(outcome.failures)


def test_the_committed_subset_covers_every_kind_and_is_compact() -> None:
    cases = load_cases(COMMITTED)
    uncovered = computes().keys() - {kind_of(case) for case in cases}
    assert not uncovered, "python -m tests.golden.subset SOURCE makes it again"
    assert {case.file for case in cases} == {file.name for file in COMMITTED.glob("*.npz")}
    assert sum(file.stat().st_size for file in COMMITTED.iterdir() if file.is_file()) <= MOST_BYTES
