"""`raysl scale` writes a config that trains, with its provenance, and overwrites nothing."""

from __future__ import annotations

from raysl.config import load
from raysl.train.config import RunConfig
from tests.cli.conftest import Commands

ASKED = ("--global-batch", "128", "--workers", "2")


def test_it_says_of_each_value_what_becomes_of_it(raysl: Commands) -> None:
    raysl.recipe.write_text("# The best of 4 trials\n# trial: 2\n" + raysl.recipe.read_text())
    ended = raysl("scale", str(raysl.recipe), *ASKED, "--epochs", "9", "--to", "big.yaml")
    assert ended.code == 0, ended.err
    assert "rescaled     train.batch_size: 32 -> 128  (asked for; it is of all workers)" in ended.out
    assert "rescaled     optimizer.lr: 0.1 -> 0.4  (sgd: linear rule, batch x4 gives rate x4" in ended.out
    assert "rescaled     steps in the horizon: 120 -> 90  (9 epochs of the images there are)" in ended.out
    assert "\nunsafe       method.temperature: 0.5  (it weighs the 254 negatives of an image" in ended.out
    assert "\ntransferred  method: name simclr, normalize true," in ended.out
    assert "wrote big.yaml\nnext: raysl pretrain big.yaml\n" in ended.out
    written = (raysl.folder / "big.yaml").read_text()
    assert written.startswith("# The best of 4 trials\n# trial: 2\n# Scaled from ")
    assert "# rescaled     optimizer.lr: 0.1 -> 0.4" in written
    big = load(RunConfig, ["big.yaml"])
    assert (big.train.batch_size, big.launch.workers, big.train.epochs, big.optimizer.lr) == (128, 2, 9, 0.4)


def test_its_json_has_the_changes(raysl: Commands) -> None:
    found = raysl("scale", str(raysl.recipe), "optimizer.lr=0.2", *ASKED, "--to", "big.yaml", "--json").json
    (rate,) = [change for change in found["changes"] if change["key"] == "optimizer.lr"]
    assert (rate["old"], rate["new"], rate["label"], rate["derived"]) == (0.2, 0.8, "rescaled", False)
    assert found["config"]["optimizer"]["lr"] == 0.8
    assert found["path"] == "big.yaml"


def test_what_it_writes_trains(raysl: Commands) -> None:
    raysl(
        "scale",
        str(raysl.recipe),
        "--global-batch",
        "64",
        "--workers",
        "1",
        "--epochs",
        "1",
        "--to",
        "b.yaml",
    )
    ended = raysl("pretrain", "b.yaml", "--name", "big")
    assert ended.code == 0, ended.err


def test_what_is_not_asked_for_stays(raysl: Commands) -> None:
    ended = raysl("scale", str(raysl.recipe), "launch.workers=2", "--epochs", "9", "--to", "long.yaml")
    assert ended.code == 0, ended.err
    assert "transferred  train.batch_size: 32  (as it was; it is of all workers)" in ended.out
    assert "transferred  launch.workers: 2  (as it was; it changes no result)" in ended.out
    assert "rescaled     train.epochs: 3 -> 9  (asked for)" in ended.out
    assert load(RunConfig, ["long.yaml"]).train.epochs == 9


def test_a_method_of_ones_own_goes_along(raysl: Commands) -> None:
    raysl("new", "method", "far_apart")
    (raysl.folder / "big").mkdir()
    ended = raysl("scale", "digits_far_apart.yaml", *ASKED, "--to", "big/big.yaml")
    assert "wrote big/method/far_apart.py, which goes with it" in ended.out
    (raysl.folder / "far_apart.py").unlink()
    assert load(RunConfig, ["big/big.yaml"]).method.name == "./far_apart.py:FarApart"


def test_nothing_is_overwritten_and_mistakes_are_told(raysl: Commands) -> None:
    there = raysl.folder / "small-b128.yaml"
    there.write_text("mine")
    recipe = str(raysl.recipe)
    for words, told in {
        (recipe, *ASKED, "--to", "small-b128.yaml"): "small-b128.yaml: there already",
        (recipe, *ASKED, "--to", "nowhere/big.yaml"): "there is no folder nowhere",
        (recipe, "--global-batch", "9", "--workers", "2"): "does not divide among 2 workers; use 8 or 10",
        (recipe, "--global-batch", "9", "launch.workers=2"): "does not divide among 2 workers; use 8 or 10",
        (recipe, "--workers", "0"): "1 or more workers",
        (recipe,): "nothing to change: give --global-batch, --workers",
        ("digits/simlcr", *ASKED): "did you mean 'digits/simclr'?",
    }.items():
        ended = raysl("scale", *words)
        assert ended.code == 2
        assert told in ended.err
    assert there.read_text() == "mine"
