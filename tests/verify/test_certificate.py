"""`raysl verify` ends with 1 for a method that is wrong in any of the three ways, and says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysl.cli.main import main
from raysl.errors import InputError
from raysl.verify.certificate import verify
from tests.golden.test_golden import COMMITTED

# Methods of one's own: a right one, one that forgets the other workers, one that fails beside others, one
# that always fails, and one with a parameter that learns nothing.
OWN = """
from raysl.losses.contrastive import nt_xent_loss
from raysl.methods import base
from raysl.models.heads import HeadConfig, build_head
from raysl.models.parallel import gather, rank, world_size

class Right(base.Method):
    class Config(base.MethodConfig):
        projector: HeadConfig = HeadConfig(width=32, out=16)
        '''From features to embeddings.'''

    def __init__(self, config, backbone, plan):
        super().__init__()
        self.backbone, self.projector = backbone, build_head(config.projector, backbone.features)

    def joined(self, x):
        return gather(x)

    def forward(self, views, step):
        z = [self.joined(self.projector(self.backbone(view))) for view in views]
        return base.LossReport(nt_xent_loss(z), {}, z[0].detach())

class Local(Right):
    def joined(self, x):
        return x

class Fails(Right):
    def joined(self, x):
        if world_size() > 1 and rank() == 1:
            raise ValueError("cannot be two")
        return gather(x)

class Broken(Right):
    def forward(self, views, step):
        raise ValueError("broken")

class Idle(Right):
    class Config(Right.Config):
        views_required = (4, 4)

    def __init__(self, config, backbone, plan):
        super().__init__(config, backbone, plan)
        self.idle = build_head(config.projector, 3)
"""
SMALL = ("train.batch_size=32", "backbone.width=4")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The certificates of the three methods, by class, and the exit code."""
    file = tmp_path_factory.mktemp("own") / "own.py"
    file.write_text(OWN, encoding="utf-8")
    words = [f"{file}:{name}" for name in ("Right", "Local", "Fails", "Broken", "Idle")]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        code = main(["verify", *words, *SMALL, "--workers", "2", "--json", "--vectors", str(COMMITTED)])
    values: dict[str, Any] = json.loads(printed[-1])
    by_name = {one["method"].rpartition(":")[2]: one for one in values["certificates"]}
    return {"code": code, "passed": values["passed"], **by_name}


def failed(certificate: dict[str, Any]) -> set[str]:
    return {check["kind"] for check in certificate["checks"] if not check["passed"]}


def test_a_method_that_forgets_the_other_workers_fails(told: dict[str, Any]) -> None:
    assert told["code"] == 1
    assert told["passed"] is False
    assert failed(told["Local"]) == {"workers"}
    (found,) = (one for one in told["Local"]["checks"] if "float64" in one["what"])
    assert found["errors"]["loss"] > 1e-3
    assert found["detail"].startswith("worst in ")


def test_a_right_method_passes_without_stored_vectors(told: dict[str, Any]) -> None:
    assert failed(told["Right"]) == set()
    assert [one["kind"] for one in told["Right"]["checks"]] == ["workers", "workers", "precision"]
    assert "reference: no stored vectors" in told["Right"]["notes"]


def test_what_a_worker_dies_of_is_told_and_the_other_methods_go_on(told: dict[str, Any]) -> None:
    assert failed(told["Fails"]) == {"workers"}
    assert {one["detail"] for one in told["Fails"]["checks"] if one["kind"] == "workers"} == {
        "ValueError: cannot be two"
    }


def test_a_method_that_cannot_take_a_step_fails_every_check_of_it(told: dict[str, Any]) -> None:
    assert failed(told["Broken"]) == failed(told["Idle"]) == {"workers", "precision"}
    assert {one["detail"] for one in told["Broken"]["checks"]} == {"ValueError: broken"}
    assert all(one["detail"].startswith("no gradient for idle.") for one in told["Idle"]["checks"])


def vectors(tmp_path: Path, changed: str | None = None) -> Path:
    """Copy the contrastive cases, one array of which may be a thousandth off."""
    index = json.loads((COMMITTED / "INDEX.json").read_text(encoding="utf-8"))
    index["cases"] = [case for case in index["cases"] if "/nce_" in case["id"]]
    (name,) = {case["file"] for case in index["cases"]}
    with np.load(COMMITTED / name) as members:
        arrays: dict[str, Any] = {key: members[key] for key in members.files}
    for case in index["cases"]:
        if changed is not None:
            key = case["arrays"][changed]["key"]
            arrays[key] = arrays[key] * 1.001
    np.savez(tmp_path / name, **arrays)
    (tmp_path / "INDEX.json").write_text(json.dumps(index), encoding="utf-8")
    return tmp_path


def test_stored_vectors_that_ours_does_not_meet_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["verify", "simclr", "--workers", "1", "--vectors", str(vectors(tmp_path, "grad_x1"))])
    out = capsys.readouterr().out
    assert code == 1
    assert "simclr: FAIL" in out
    assert "  FAIL  reference" in out
    assert "grad_x1 is" in out
    assert "  PASS  precision" in out
    assert out.endswith("failed: simclr\n")


def test_the_certificate_of_a_right_method_says_what_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "simclr", "--workers", "1", "--vectors", str(vectors(tmp_path))]) == 0
    out = capsys.readouterr().out
    for part in (
        "torch 2.",
        "1 stored case, 1 value, 2 gradients, ",
        "float64: worst",
        "float32: worst",
        "bf16 against float32 on cpu",
        "run: recipe digits/simclr, global batch 128",
        "all 1 passed",
    ):
        assert part in out


def test_a_tolerance_that_bf16_does_not_keep_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysl.methods.simclr import Config

    monkeypatch.setattr(Config, "bf16_tolerance", 1e-9)
    found = verify(["simclr"], workers=[1], vectors=vectors(tmp_path))
    assert [check.kind for check in found.certificates[0].checks if not check.passed] == ["precision"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["simlcr"], "no method 'simlcr'; did you mean 'simclr'"),
        (["./nowhere.py:Loss"], "nowhere.py: no such file"),
        (["simclr", "--workers", "3"], "--workers 3: simclr is verified with a batch of 128"),
        (["simclr", "--workers", "0"], "--workers 0: "),
        (["simclr", "--vectors", "nowhere"], "nowhere: holds no reference vectors"),
        (["simclr", "method.temperatur=1"], "method.temperatur"),
        (["train.batch_size=4"], "no method given"),
    ],
)
def test_what_cannot_be_verified_is_told_in_a_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *words]) == InputError.exit_code
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
