"""What raysl does, as functions; the commands call these and print.

run = raysl.pretrain("digits/simclr", overrides=["train.epochs=5"])
raysl.evaluate(run.run, "knn").metrics
best = raysl.sweep("matrix_ssl", overrides=["trials=16"])
backbone = raysl.load_backbone(best.best_run)
"""

from __future__ import annotations

from raysl.api.data import Drawn, data_bench, data_list, data_prepare, data_show
from raysl.api.job import Job, Say, Source, default_name, describe_here, silent
from raysl.api.methods import scale, verify
from raysl.api.records import compare, ls, new_method, show
from raysl.api.runs import (
    evaluate,
    load_backbone,
    plan_evaluate,
    plan_pretrain,
    plan_sweep,
    pretrain,
    sweep,
)
from raysl.api.sweeps import (
    plan_sweep_extend,
    sweep_check,
    sweep_export,
    sweep_extend,
    sweep_replay,
    sweep_simulate,
    sweep_status,
    sweep_stop,
)

__all__ = [
    "Drawn",
    "Job",
    "Say",
    "Source",
    "compare",
    "data_bench",
    "data_list",
    "data_prepare",
    "data_show",
    "default_name",
    "describe_here",
    "evaluate",
    "load_backbone",
    "ls",
    "new_method",
    "plan_evaluate",
    "plan_pretrain",
    "plan_sweep",
    "plan_sweep_extend",
    "pretrain",
    "scale",
    "show",
    "silent",
    "sweep",
    "sweep_check",
    "sweep_export",
    "sweep_extend",
    "sweep_replay",
    "sweep_simulate",
    "sweep_status",
    "sweep_stop",
    "verify",
]
