"""A user's own method: found, refused with a line, carried to where the file is not, kept with the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray import cloudpickle

from raysl import methods
from raysl.config import load, yaml
from raysl.errors import InputError
from raysl.methods import own
from raysl.methods.base import Method, Plan
from raysl.methods.simclr import Config as SimclrConfig
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.templates import new_method
from raysl.train.config import RunConfig
from raysl.train.method_copy import keep_method
from raysl.train.rundir import RunDirectory
from raysl.tune.records.folder import check_directory, claim_directory
from raysl.tune.records.outputs import write_best
from raysl.tune.spaces.resolve import Space
from tests.train.made import config as small
from tests.train.made import train
from tests.tune.conftest import space

HEAD = """
from raysl.methods import base
class Config(base.MethodConfig):
    alpha: float = 1.0
class Mine(base.Method):
    def forward(self, views, step): ...
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reference() -> str:
    """A method that works, in this folder."""
    new_method("even_spread")
    return "./even_spread.py:EvenSpread"


def write(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return f"./{name}:Mine"


def run_config(reference: str, *overrides: str) -> RunConfig:
    return load(RunConfig, [small(method="simclr").to_dict()], [f"method={reference}", *overrides])


def test_its_fields_are_checked_explained_and_written_with_the_reference_and_the_digest(
    reference: str,
) -> None:
    config = run_config(reference, "method.alpha=1.5")
    values = config.to_dict()["method"]
    assert (values["name"], values["alpha"]) == (reference, 1.5)
    assert values["source_sha256"] == own.find(reference).sha256
    assert type(config.method).model_fields["t"].description == "Sharpness of the kernel between images."
    assert load(RunConfig, [config.to_dict()]) == config
    for wrong, told in (("method.alpah=2", "did you mean 'alpha'"), ("method.alpha=9", "less than or equal")):
        with pytest.raises(InputError, match=told):
            run_config(reference, wrong)


def test_classes_are_found_by_reference_and_by_config(reference: str) -> None:
    config = run_config(reference).method
    found = methods.method_class(config)
    assert issubclass(found, Method)
    assert found.__name__ == "EvenSpread"
    assert methods.method_class(reference) is found
    assert methods.config_class(reference) is type(config)
    assert methods.method_class(SimclrConfig()).__module__ == "raysl.methods.simclr"
    assert own.source_of(SimclrConfig()) is None


@pytest.mark.parametrize(
    ("text", "reference", "told"),
    [
        (HEAD, "./other.py:Mine", r"other.py: no such file; .*\./my_loss.py:MyMethod"),
        (HEAD, "./mine.py", r"\./mine.py: name its class too"),
        (HEAD, "./mine.py:Mien", "mine.py: no class 'Mien'; did you mean 'Mine'"),
        ("x = 1", "./mine.py:Mine", "no class 'Mine'; it defines no subclass of raysl.methods.base.Method"),
        (HEAD, "./mine.py:Config", "Config is not a subclass of raysl.methods.base.Method"),
        (
            HEAD.replace("class Config", "class Settings"),
            "./mine.py:Mine",
            "Mine has no Config; write class Config",
        ),
        (HEAD.replace("def forward", "def forwards"), "./mine.py:Mine", "Mine has no forward"),
        (HEAD.replace("alpha", "source_sha256"), "./mine.py:Mine", "has a field source_sha256"),
        (HEAD + "1 / 0\n", "./mine.py:Mine", "mine.py:7: ZeroDivisionError: division by zero"),
        (HEAD + "def (:\n", "./mine.py:Mine", "mine.py:7: SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "./mine.py:Mine", "mine.py:1: SystemExit: 3"),
        ("import nowhere_at_all", "./mine.py:Mine", "mine.py:1: ModuleNotFoundError: No module named"),
        (
            HEAD + "import helper\n",
            "./mine.py:Mine",
            "mine.py:7: imports helper, which lies beside it, but only",
        ),
        (
            "from . import helper\n",
            "./mine.py:Mine",
            "mine.py:1: imports . relatively, but only this one file",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(text: str, reference: str, told: str) -> None:
    write(text)
    write("x = 1", "helper.py")
    with pytest.raises(InputError, match=told) as caught:
        run_config(reference)
    assert "\n" not in str(caught.value)


def test_an_installed_package_may_be_imported_though_a_folder_beside_it_has_its_name() -> None:
    Path("torch").mkdir()
    Path("json.py").write_text("", encoding="utf-8")
    assert run_config(write(HEAD + "import torch\nimport json\n")).method.name == "./mine.py:Mine"


def test_a_broken_file_can_be_put_right_in_the_same_process() -> None:
    reference = write(HEAD + "1 / 0\n")
    with pytest.raises(InputError):
        run_config(reference)
    write(HEAD)
    first = run_config(reference).method
    write(HEAD.replace("alpha: float = 1.0", "alpha: float = 2.0"))
    assert [first.to_dict()["alpha"], run_config(reference).to_dict()["method"]["alpha"]] == [1.0, 2.0]


ELSEWHERE = """
import os, pickle, sys
config = pickle.load(sys.stdin.buffer)
assert not os.path.exists("even_spread.py")
from raysl import methods
from raysl.methods.base import Plan
from raysl.models.backbones import build_backbone
method = methods.method_class(config.method)(config.method, build_backbone(config.backbone, 1), Plan(8, 1, 1))
print(type(method).__module__, type(config.method).model_fields["t"].description, config.method.to_dict())
copy = pickle.loads(pickle.dumps(config))
assert copy == config and type(copy.method) is type(config.method)
"""


def test_a_config_carries_its_method_to_a_process_without_the_file(reference: str, tmp_path: Path) -> None:
    config = run_config(reference, "method.t=3")
    Path("empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=cloudpickle.dumps(config),
        cwd=tmp_path / "empty",
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(methods.__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode().strip()
    module = methods.method_class(config.method).__module__
    assert said == f"{module} Sharpness of the kernel between images. {config.method.to_dict()}"


def test_a_run_keeps_its_method_and_goes_on_with_it_wherever_it_is(reference: str, tmp_path: Path) -> None:
    config = run_config(reference, "train.epochs=1")
    train(config, tmp_path / "run")
    kept = tmp_path / "run" / "method" / "even_spread.py"
    assert kept.read_bytes() == Path("even_spread.py").read_bytes()
    Path("even_spread.py").write_text(HEAD, encoding="utf-8")
    (tmp_path / "run").rename(tmp_path / "moved")
    own._TEXTS.clear()  # as in a new process
    assert RunDirectory(tmp_path / "moved").config() == config
    assert RunDirectory(tmp_path / "moved").prepare(config)


def test_another_text_under_the_same_name_is_refused(reference: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.prepare(run_config(reference))
    with open("even_spread.py", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    with pytest.raises(
        InputError, match=r"method.source_sha256: .*The method's file has changed since"
    ) as caught:
        run.prepare(run_config(reference))
    assert "\n" not in str(caught.value)


def test_a_config_whose_method_is_not_to_be_found_any_more_is_refused(reference: str, tmp_path: Path) -> None:
    written = tmp_path / "written.yaml"
    written.write_text(yaml.dump(run_config(reference, "method.t=3").to_dict()), encoding="utf-8")
    with open("even_spread.py", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    own._TEXTS.clear()
    with pytest.raises(InputError, match="has changed since the config was written") as caught:
        load(RunConfig, [written])
    assert "\n" not in str(caught.value)
    now = load(RunConfig, [written], ["method.source_sha256=null"]).to_dict()["method"]
    assert (now["t"], now["source_sha256"]) == (3.0, own.find(reference).sha256)


def test_each_place_that_was_looked_at_is_told_once(reference: str) -> None:
    Path("even_spread.py").unlink()
    with pytest.raises(InputError, match=r"method: even_spread.py: no such file; a method of your own"):
        load(RunConfig, ["digits_even_spread.yaml"])


def test_a_method_that_hides_its_backbone_is_refused(reference: str) -> None:
    text = Path("even_spread.py").read_text(encoding="utf-8").replace("self.backbone", "self.net")
    Path("even_spread.py").write_text(text, encoding="utf-8")
    config = run_config(reference).method
    with pytest.raises(InputError, match=r"self.backbone is not the backbone it was given"):
        methods.build_method(config, build_backbone(BackboneConfig(name="small_cnn"), 1), Plan(8, 1, 1))


def test_configs_of_two_texts_in_one_folder_both_keep_theirs(reference: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    written: list[Path] = []
    folder.mkdir()
    for changed in ("", "# changed\n"):
        with open("even_spread.py", "a", encoding="utf-8") as file:
            file.write(changed)
        config = run_config(reference)
        written.append(folder / f"{len(written)}.yaml")
        written[-1].write_text(yaml.dump(config.to_dict()), encoding="utf-8")
        assert keep_method(folder, config) == keep_method(folder, config)
    Path("even_spread.py").unlink()
    own._TEXTS.clear()
    digests = [load(RunConfig, [file]).to_dict()["method"]["source_sha256"] for file in written]
    assert len(set(digests)) == 2


def test_it_is_found_beside_the_recipe_that_names_it(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert load(RunConfig, ["../digits_even_spread.yaml"]).method.name == reference


def test_a_search_keeps_the_method_it_began_with(reference: str, tmp_path: Path) -> None:
    searched = {"method.alpha": {"type": "float", "low": 1.0, "high": 3.0}}
    config = space(base="digits_even_spread.yaml", search=searched, overrides={})
    built = Space(config)
    before = built.base.method.to_dict()["source_sha256"]
    Path("even_spread.py").write_text(HEAD, encoding="utf-8")
    trial = built.run_config({"method.alpha": 2.5})
    assert trial.to_dict()["method"]["alpha"] == 2.5
    assert trial.to_dict()["method"]["source_sha256"] == before
    with pytest.raises(InputError, match="less than or equal to 4"):
        Space(space(base="digits/simclr", overrides={"method": new_elsewhere()}, search={
            "method.alpha": {"type": "float", "low": 1.0, "high": 9.0}
        }))  # fmt: skip


def test_a_search_goes_on_with_every_file_it_began_with(reference: str, tmp_path: Path) -> None:
    other, root = new_elsewhere(), tmp_path / "sweep"
    root.mkdir()
    names = {"method.name": {"type": "categorical", "choices": [reference, other]}}
    config = space(base="digits_even_spread.yaml", search=names, overrides={})
    study = claim_directory(root, Space(config))
    assert {file.name for file in (root / "method").iterdir()} == {"even_spread.py", "other_spread.py"}
    check_directory(root, Space(config))
    assert claim_directory(root, Space(config)) == study
    with open("other_spread.py", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    told = r"source_sha256 of \./other_spread.py:OtherSpread: .*method's file has changed since it began; "
    with pytest.raises(InputError, match=told) as caught:
        check_directory(root, Space(config))
    assert "\n" not in str(caught.value)


def new_elsewhere() -> str:
    new_method("other_spread")
    return "./other_spread.py:OtherSpread"


def test_the_winner_of_a_sweep_takes_its_method_along(reference: str, tmp_path: Path) -> None:
    from raysl.tune.choice import Choice
    from raysl.tune.records.entry import Entry

    searched = {"method.alpha": {"type": "float", "low": 1.0, "high": 3.0}}
    built = Space(space(base="digits_even_spread.yaml", search=searched, overrides={}))
    best = Entry(0, {"method.alpha": 2.5}, {}, state="complete", values=(0.5,), ended=0.0)
    (tmp_path / "sweep").mkdir()
    written = write_best(tmp_path / "sweep", built, Choice(best, best, (0,), None, (0.5,)), [best])
    Path("even_spread.py").unlink()
    own._TEXTS.clear()
    assert load(RunConfig, [written]).method.to_dict()["alpha"] == 2.5
