"""A user's own method in a sweep and in a job of two workers, none of which can see its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysl.cluster.connect import ClusterInfo
from raysl.config import load
from raysl.errors import InputError
from raysl.methods import own
from raysl.templates import new_method
from raysl.train.config import RunConfig
from raysl.train.pretrain import prepare, pretrain
from raysl.tune.spaces.space_file import load_space
from raysl.tune.sweep import sweep


def quiet(line: str) -> None: ...


@pytest.mark.timeout(240)
def test_it_travels_to_trials_and_workers_and_stays_with_them(
    ray_cluster: ClusterInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The processes of Ray were started elsewhere.
    monkeypatch.chdir(tmp_path)
    written = new_method("far_apart")
    shown = ["diagnostics.images=false"]
    space = load_space(
        "far_apart_space.yaml",
        ["trials=2", "epochs=1", "warm_spare=false", "stopping.rule=none", "noise.seeds=1", *shown],
    )
    result = sweep(space, tmp_path / "sweep", say=quiet)
    assert result.states == {"complete": 2}
    text = written.files[0].read_bytes()
    assert (result.best_run / "method" / "far_apart.py").read_bytes() == text
    assert (tmp_path / "sweep" / "method" / "far_apart.py").read_bytes() == text

    with open("far_apart.py", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    with pytest.raises(InputError, match=r"\(recipe\) method.source_sha256: "):
        sweep(space, tmp_path / "sweep", say=quiet)
    Path("far_apart.py").unlink()
    own._TEXTS.clear()
    winner = load(RunConfig, [result.best_config], ["launch.workers=2", "train.device=cpu"])
    done = pretrain(prepare(winner), tmp_path / "run", say=quiet)
    assert done.epochs == 1
    assert (done.run / "method" / "far_apart.py").read_bytes() == text
