"""The main job on digits, from search to judgement, in a few minutes: what `raysl quickstart` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl import api
from raysl.api.job import directory
from raysl.cluster.address import resolve
from raysl.cluster.connect import connect
from raysl.config import load
from raysl.machine import allocation

if TYPE_CHECKING:
    from raysl.evaluation.result import EvaluationResult
    from raysl.tune.sweep import SweepResult

_SPACE = "quickstart"
_WINNER_EPOCHS = 120
_WORKERS = 2
_WINNER = (
    f"train.epochs={_WINNER_EPOCHS}",
    "schedule.horizon=null",
    f"launch.workers={_WORKERS}",
    "diagnostics.every=10",
    "checkpoint.every=10",
)
_ROWS = {"trained": "trained encoder", "untrained": "same encoder, untrained", "raw_pixels": "raw pixels"}


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart found.

    Args:
        sweep: the search.
        run: the winner's run directory.
        few_labels: k-NN from a few labels per class, beside the baselines.
        linear: linear probe, beside the baselines.
    """

    sweep: SweepResult
    run: Path
    few_labels: EvaluationResult
    linear: EvaluationResult

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "sweep": asdict(self.sweep),
            "run": str(self.run),
            "few_labels": self.few_labels.to_dict(),
            "linear": self.linear.to_dict(),
        }

    def describe(self) -> str:
        """Return the table, where to look, and what to try next."""
        options = self.few_labels.options
        few = f"k-NN, {options['labels_per_class']} labels/class"
        lines = ["", f"{'top-1 on the test split, %':<28}{few:>24}{'linear probe':>14}"]
        for key, name in _ROWS.items():
            few_top1, linear_top1 = (
                (result.metrics if key == "trained" else result.baselines[key])["top1"]
                for result in (self.few_labels, self.linear)
            )
            lines.append(f"{name:<28}{few_top1:>24.1f}{linear_top1:>14.1f}")
        for key, gap in self.few_labels.differences.items():
            lines.append(
                f"trained - {_ROWS[key]}: {gap.mean:+.1f} points, 95 % interval "
                f"{gap.low:+.1f} to {gap.high:+.1f} ({gap.pairs} paired draws)"
            )
        sweep = self.sweep.directory
        lines += [
            "",
            f"the run:      {self.run}",
            f"TensorBoard:  tensorboard --logdir {sweep.parent}",
            "",
            "next, try:",
            f"  raysl compare {sweep} {self.run}",
            "  raysl sweep simclr trials=8",
            f"  raysl pretrain {self.sweep.best_config} train.epochs=300 --name longer",
        ]
        return "\n".join(lines)


def quickstart(
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    runs: str | Path = "runs",
    cluster: str = "auto",
    say: api.Say = api.silent,
) -> QuickstartResult:
    """Sweep Matrix-SSL on digits, pretrain the winner on two workers, judge it beside two baselines.

    Interrupted, the same call continues where it was.

    Args:
        overrides: `key=value` overrides of the sweep.
        name: the sweep is `<name>-sweep` and the winner `<name>-winner` below `runs`; by default,
            `quickstart-sweep` and so on.
        runs: folder of run directories.
        cluster: as `--cluster`.
        say: told the lines for people.
    """
    from raysl.train.config import RunConfig
    from raysl.train.pretrain import prepare, pretrain
    from raysl.tune.spaces.space_file import load_space
    from raysl.tune.sweep import sweep

    # Ray only counts CPUs, so that two workers can share one where there is no second.
    cpus = None if resolve(cluster).address else max(_WORKERS, allocation().cpus)
    with connect(cluster, cpus=cpus) as ray:
        say(ray.describe())
        say("\n[1/3] searching mu, gamma and the learning rate of Matrix-SSL on digits, with early stopping")
        space = load_space(_SPACE, overrides)
        found = sweep(space, _place(runs, name, "sweep"), say=say)
        say(found.describe().rpartition("\n")[0])
        say(f"\n[2/3] pretraining the winner for {_WINNER_EPOCHS} epochs on {_WORKERS} Ray Train workers")
        winner = load(RunConfig, [found.best_config], _WINNER)
        run = pretrain(prepare(winner), _place(runs, name, "winner"), say=say).run
    say("\n[3/3] judging it on the test split, beside the same encoder untrained and raw pixels")
    return QuickstartResult(
        found,
        run,
        api.evaluate(run, "knn-few"),
        api.evaluate(run, "lbfgs", baselines=True),
    )


def plan_quickstart(job: api.Job) -> dict[str, Any]:
    """Check what `quickstart` would check and return its plan; nothing is started or written."""
    sweep, winner = (_place(job.runs, job.name, part) for part in ("sweep", "winner"))
    asked = replace(job, name=sweep.name, say=api.silent)
    plan = api.plan_sweep(_SPACE, asked)
    lines = [
        plan["where"],
        *plan["lines"],
        f"then would pretrain the winner for {_WINNER_EPOCHS} epochs on {_WORKERS} workers into {winner}",
        "then would judge it by few-label k-NN and a linear probe, beside raw pixels and the untrained one",
    ]
    return {"sweep": plan, "winner_epochs": _WINNER_EPOCHS, "workers": _WORKERS, "lines": lines}


def _place(runs: str | Path, name: str | None, part: str) -> Path:
    return directory(runs, f"{name or 'quickstart'}-{part}")
