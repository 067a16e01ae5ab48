from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from raysl.errors import InputError
from raysl.report.runs import RunDetail, SweepDetail, list_runs, show_run
from tests.report.made import add_checkpoint, add_evaluation, curve, make_run, make_sweep


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a finished run, one below another folder, one just created, a sweep and a broken run."""
    folder = tmp_path / "runs"
    make_run(folder / "done", curve(5, 1.0), status={"state": "completed"})
    make_run(folder / "group" / "half", curve(2, 0.5), epochs=4, status={"state": "interrupted"})
    make_run(folder / "new", epochs=3)
    make_sweep(folder / "sweep", [0.5, 1.5, 1.0, 0.7], trials=8)
    (make_run(folder / "broken") / "config.yaml").write_text("{")
    (folder / "notes.txt").write_text("not a run")
    return folder


def test_every_run_is_listed_once(runs: Path) -> None:
    rows = {row.name: row for row in list_runs(runs).runs}
    assert set(rows) == {"done", "group/half", "new", "sweep", "broken"}
    done, half = rows["done"], rows["group/half"]
    assert (done.kind, done.method, done.state, done.done, done.total) == ("run", "simclr", "completed", 5, 5)
    assert done.knn_top1 == done.best_knn_top1 == pytest.approx(curve(5, 1.0)[-1]["eval/knn_top1"])
    assert done.train_loss == pytest.approx(curve(5, 1.0)[-1]["train/loss"])
    assert (half.state, half.done, half.total) == ("interrupted", 2, 4)
    assert (rows["new"].state, rows["new"].train_loss) == ("created", None)


def test_a_sweep_is_one_line(runs: Path) -> None:
    row = next(row for row in list_runs(runs).runs if row.kind == "sweep")
    assert (row.name, row.method, row.done, row.total) == ("sweep", "simclr", 4, 8)
    assert row.best_knn_top1 == pytest.approx(curve(20, 1.5)[-1]["eval/knn_top1"])


def test_a_broken_run_does_not_hide_the_others(runs: Path) -> None:
    listing = list_runs(runs)
    row = next(row for row in listing.runs if row.name == "broken")
    assert row.state == "unreadable"
    assert f"broken: {row.detail}" in listing.to_text()


def test_the_state_of_a_sweep(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "runs" / "sweep", [1.0, 1.0])

    def state() -> str:
        return list_runs(tmp_path / "runs").runs[0].state

    assert state() == "interrupted"
    lease = sweep / "lease.json"
    lease.write_text("{}")
    assert state() == "running"
    os.utime(lease, (1.0, 1.0))
    assert state() == "interrupted"
    (sweep / "best.yaml").write_text("")
    assert state() == "completed"


def test_the_latest_comes_first(runs: Path) -> None:
    for place, name in enumerate(("new", "done", "sweep", "group/half", "broken")):
        for file in (runs / name).rglob("*"):
            os.utime(file, (1000.0 - place, 1000.0 - place))
    assert [row.name for row in list_runs(runs).runs] == ["new", "done", "sweep", "group/half", "broken"]


def test_a_sweeps_own_folder_lists_its_trials(runs: Path) -> None:
    assert {row.name for row in list_runs(runs / "sweep").runs} == {"0", "1", "2", "3"}


def test_the_listing_as_text_and_values(runs: Path) -> None:
    listing = list_runs(runs)
    text = listing.to_text()
    line = next(line for line in text.splitlines() if "group/half" in line)
    assert line.split()[:5] == ["group/half", "simclr", "interrupted", "2/4", "epochs"]
    assert "4/8 trials" in text
    values = json.loads(json.dumps(listing.to_dict()))
    assert len(values["runs"]) == 5


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    assert "no runs yet" in list_runs(tmp_path).to_text()


def test_a_missing_folder_or_a_run_is_refused(runs: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_runs(runs / "nowhere")
    with pytest.raises(InputError, match="raysl show"):
        list_runs(runs / "done")


def test_show_tells_all_about_a_run(runs: Path) -> None:
    path = runs / "done"
    add_evaluation(path, "knn", 88.5, epoch=5)
    add_checkpoint(path, "epoch_0005", 91.25)
    detail = show_run(path)
    assert isinstance(detail, RunDetail)
    text = detail.to_text()
    assert f"{path}: completed, 5 of 5 epochs" in text
    for expected in (
        "simclr, temperature 0.5",
        "sgd, lr 0.1",
        "epoch_0005",
        "k-NN 91.25 %",
        "88.50",
        "78.50",
    ):
        assert expected in text
    values = json.loads(json.dumps(detail.to_dict()))
    assert values["metrics"]["train/loss"]["best"]["epoch"] == 5
    assert values["evaluations"][0]["metrics"]["top1"] == 88.5
    assert values["size"] == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_show_says_how_to_go_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    assert show_run("runs/new").commands[0] == "raysl pretrain runs/new/config.yaml --name new"
    assert show_run("runs/group/half").commands[0] == (
        "raysl pretrain runs/group/half/config.yaml --name half --runs runs/group"
    )
    add_checkpoint(Path("runs/done"), "epoch_0005", 90.0)
    assert show_run("runs/done").commands == ["raysl evaluate runs/done", "tensorboard --logdir runs/done"]
    assert "the command that began it continues it" in show_run("runs/sweep").commands
    Path("runs/sweep/best.yaml").write_text("")
    assert show_run("runs/sweep").commands[0] == "raysl pretrain runs/sweep/best.yaml"


def test_show_tells_the_best_trials_of_a_sweep_first(runs: Path) -> None:
    detail = show_run(runs / "sweep")
    assert isinstance(detail, SweepDetail)
    lines = detail.to_text().splitlines()
    trials = [line.split()[0] for line in lines if line.strip() and line.split()[0].isdigit()]
    assert trials == ["1", "3", "0", "2"]
    assert "4 of 8 trials ended (3 completed, 1 pruned)" in lines[0]
    assert "search optimizer.lr: type float, low 0.01, high 1, log true" in lines
    assert json.loads(json.dumps(detail.to_dict()))["states"] == {"completed": 3, "pruned": 1}


def test_show_tells_of_trials_what_the_sweep_says(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", [0.5, 1.5, 1.0, 0.7])
    status = {"state": "stopped", "cause": "not continued", "pid": 1, "host": "elsewhere", "time": 1.0}
    (sweep / "trials/2/status.json").write_text(json.dumps(status))
    (sweep / "trials/3/status.json").write_text(json.dumps(status | {"state": "interrupted"}))

    def entry(number: int, state: str, cause: str, reason: str, value: float | None) -> dict[str, object]:
        params = {"optimizer.lr": 0.25 * number}
        fields = {"number": number, "state": state, "cause": cause, "reason": reason, "value": value}
        return {**fields, "params": params, "epoch": 4}

    entries = [
        entry(0, "complete", "complete", "", 99.5),
        entry(2, "pruned", "pruned", "below the median of 2 trials", None),
        entry(3, "running", "", "", None),
        entry(4, "failed", "nan", "the loss is not a number", None),
    ]
    (sweep / "trials.json").write_text(json.dumps(entries))
    detail = show_run(sweep)
    assert isinstance(detail, SweepDetail)
    text = detail.to_text()
    cells = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in cells] == ["0", "1", "3", "2", "4"]  # the best first
    rows = {int(row[0]): row for row in cells}
    assert rows[0][1:] == ["complete", "4", "99.50", "optimizer.lr", "0"]
    assert rows[1][1:3] == ["completed", "20"]
    assert rows[2][1] == "pruned"
    assert rows[2][-2:] == ["optimizer.lr", "0.5"]
    assert rows[3][1:3] == ["interrupted", "20"]
    assert rows[4][1:] == ["failed", "(nan)", "4", "–", "optimizer.lr", "1"]
    assert "trial 2, pruned: below the median of 2 trials" in text
    assert "trial 4, failed (nan): the loss is not a number" in text
    assert detail.to_dict()["trials"][4]["reason"] == "the loss is not a number"


def test_a_damaged_account_of_trials_is_named(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", [1.0])
    (sweep / "trials.json").write_text('[{"number": 0}]')
    with pytest.raises(InputError, match="cannot be read"):
        show_run(sweep)


def test_show_says_why_a_run_failed(tmp_path: Path) -> None:
    status = {"state": "stopped", "cause": "collapse", "detail": "the embeddings are all alike"}
    text = show_run(make_run(tmp_path / "run", curve(1, 1.0), epochs=9, status=status)).to_text()
    assert "collapse, 1 of 9 epochs (the embeddings are all alike)" in text


def test_show_refuses_what_is_neither(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run nor a sweep"):
        show_run(tmp_path)
