"""What a sweep leaves for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from raysl.tune.records.entry import Entry, Report
from raysl.tune.records.outputs import write_hparams, write_trials


def _entry(number: int, cause: str, metrics: dict[str, float] | None) -> Entry:
    entry = Entry(number, {"optimizer.lr": 0.1}, {}, state="complete", cause=cause)
    if metrics is not None:
        entry.reports.append(Report(1, None, 0.0, 1, metrics))
    return entry


def test_the_summary_of_the_ledger_is_what_show_reads(tmp_path: Path) -> None:
    trials = [_entry(0, "complete", {"eval/knn_top1": 90.0})]
    write_trials(tmp_path, trials)
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert rows == [
        {
            "number": 0,
            "role": {"kind": "search", "of": None, "seed": 0, "fidelity": 0},
            "state": "complete",
            "audited": False,
            "cause": "complete",
            "reason": "",
            "params": {"optimizer.lr": 0.1},
            "value": None,
            "values": None,
            "epoch": 1,
            "chosen": None,
        }
    ]


def test_every_trial_names_the_metrics_of_all(tmp_path: Path) -> None:
    """The tab takes its columns from the first trial it reads, which may be one that never reported."""
    trials = [_entry(0, "nan", None), _entry(1, "complete", {"eval/knn_top1": 90.0, "time/first_step": 1.0})]
    for entry in trials:
        (tmp_path / "trials" / str(entry.number) / "tensorboard").mkdir(parents=True)

    write_hparams(tmp_path, trials)

    for entry in trials:
        events = EventAccumulator(str(tmp_path / "trials" / str(entry.number) / "tensorboard"))
        events.Reload()
        content = events.PluginTagToContent(metadata.PLUGIN_NAME)
        experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
        session = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
        assert [info.name.tag for info in experiment.metric_infos] == ["eval/knn_top1"]
        assert session.hparams["state"].string_value == entry.cause
