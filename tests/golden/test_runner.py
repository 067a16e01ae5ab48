"""The runner of reference vectors itself: what is wrong or unknown in a directory fails, and is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysl.verify.reference import load_cases
from tests.golden.subset import make
from tests.golden.test_golden import COMMITTED

HERE = Path(__file__).parent
CASE = "04_contrastive_byol/byol_update"
ROUNDING = "04_contrastive_byol/norm_mse_N7_d3"


def directory(tmp_path: Path, *ids: str, **changed: Any) -> Path:
    """Copy some committed cases into a directory of their own; `changed` replaces fields of the first."""
    folder = tmp_path / "given"
    folder.mkdir()
    index = json.loads((COMMITTED / "INDEX.json").read_text(encoding="utf-8"))
    cases = [case for case in index["cases"] if case["id"] in ids]
    assert len(cases) == len(ids)
    for name in {case["file"] for case in cases}:
        (folder / name).write_bytes((COMMITTED / name).read_bytes())
    cases[0] |= changed
    (folder / "INDEX.json").write_text(json.dumps(index | {"cases": cases}), encoding="utf-8")
    return folder


def tamper(folder: Path, key: str, factor: float) -> None:
    (file,) = folder.glob("*.npz")
    with np.load(file) as members:
        arrays: dict[str, Any] = {name: members[name] for name in members.files}
    arrays[key] = arrays[key] * factor
    np.savez(file, **arrays)


def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = pytest.main(
        [f"{HERE / 'test_golden.py'}", "--golden-dir", str(folder), "-k", "given:", "-p", "no:cacheprovider",
         "-p", "no:timeout", "-W", "ignore", "--rootdir", str(HERE.parents[1])]
    )  # fmt: skip
    return int(code), capsys.readouterr().out


def test_a_directory_that_is_right_passes_and_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = directory(tmp_path, CASE, ROUNDING)
    code, told = run(folder, capsys)
    assert code == 0, told
    assert f"golden: 2 passed / 2 mapped / 2 total ({folder})" in told


def test_a_case_that_nothing_computes_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = directory(tmp_path, CASE, ROUNDING, id="09_new/loss_N4")
    code, told = run(folder, capsys)
    assert code == 1
    assert "given:09_new/loss_N4" in told
    assert "nothing of ours computes this case; add it to raysl/verify/cases" in told
    assert f"golden: 1 passed / 1 mapped / 2 total ({folder})" in told


@pytest.mark.parametrize("key", ["byol_update__target_after", "byol_update__online"])
def test_a_wrong_value_fails(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = directory(tmp_path, CASE)
    tamper(folder, key, 1.001)
    code, told = run(folder, capsys)
    assert code == 1
    assert f"{CASE}: target_after is" in told
    assert f"golden: 0 passed / 1 mapped / 1 total ({folder})" in told


def test_a_subset_of_the_subset_keeps_every_kind(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    source, target = directory(tmp_path, CASE, ROUNDING), tmp_path / "target"
    target.mkdir()
    told = make(source, target, budget=10_000)
    assert told.startswith("2 of 2 cases, 2 kinds, ")
    assert {case.id for case in load_cases(target)} == {CASE, ROUNDING}
