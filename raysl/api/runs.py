"""Searching, training and judging: `pretrain`, `sweep`, `evaluate`, and what each would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl.api.job import Job, Say, Source, describe_here, directory, require_room, resolved, silent
from raysl.cluster.address import resolve
from raysl.cluster.connect import connect
from raysl.machine import allocation

if TYPE_CHECKING:
    from raysl.evaluation.result import EvaluationResult
    from raysl.models.backbones import Backbone
    from raysl.train.pretrain import PretrainResult
    from raysl.tune.sweep import SweepResult


def pretrain(
    *sources: Source,
    overrides: Sequence[str] = (),
    name: str | None = None,
    runs: str | Path = "runs",
    cluster: str = "auto",
    say: Say = silent,
) -> PretrainResult:
    """Train one encoder, or continue the run that these arguments began.

    One worker trains in this process, and starts a Ray only for the feed `ray`; more are Ray Train workers.

    Args:
        sources: recipe names, YAML files or mappings, merged left to right.
        overrides: `dotted.key=value` strings, applied last.
        name: run directory below `runs`; made from the arguments when not given.
        runs: folder of run directories.
        cluster: `auto`, `local` or an address, as `--cluster`.
        say: told the lines for people.

    Raises:
        InputError: the arguments, the data or the run directory cannot be used.
        TrainingStopped: NaN, infinite or collapsed.
        Interrupted: a signal came; the same call continues.
    """
    from raysl.data.feeds import choose_feed
    from raysl.train.pretrain import needs_ray, prepare, pretrain

    resolve(cluster)
    config, path = resolved(sources, Job(overrides, name, runs))
    choice = choose_feed(config.data)
    threads = allocation().cpus if config.launch.workers == 1 else None
    if not needs_ray(config, choice):
        say(describe_here())
        return pretrain(prepare(config, choice), path, threads=threads, say=say)
    # Checked before a Ray is started, which takes seconds; but its tasks read the images of their feed.
    prepared = prepare(config, choice) if choice.feed == "memory" else None
    with connect(cluster) as ray:
        say(ray.describe())
        return pretrain(prepared or prepare(config, choice), path, threads=threads, say=say)


def plan_pretrain(sources: Sequence[Source], job: Job) -> dict[str, Any]:
    """Check everything `pretrain` would check and return its plan; nothing is started or written.

    Returns:
        Plain values: data, steps, workers, where it will run, the run directory and the lines for people.
    """
    from raysl.data.feeds import choose_feed
    from raysl.train.pretrain import needs_ray, prepare

    target = resolve(job.cluster)
    config, path = resolved(sources, job)
    if target.address is None:
        require_room(config)
    choice = choose_feed(config.data)
    where = job.would_use() if needs_ray(config, choice) else describe_here()
    job.say(where)
    # Where no Ray is connected, threads do what its tasks would.
    prepared = prepare(config, choice)
    workers = f"{config.launch.workers} workers on Ray Train" if config.launch.workers > 1 else "this process"
    lines = [*prepared.lines, f"would train in {workers}", f"would write {path}"]
    return {"run": str(path), "where": where, **prepared.facts(), "config": config.to_dict(), "lines": lines}


def sweep(
    space: str | Path,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    runs: str | Path = "runs",
    cluster: str = "auto",
    say: Say = silent,
) -> SweepResult:
    """Search a method's hyperparameters, or continue the sweep that these arguments began.

    Args:
        space: name or path of a search space.
        overrides: `key=value` strings; keys of the space (`trials=32`) or of the runs (`train.epochs=20`).
        name: sweep directory below `runs`; the space's name when not given.
        runs: folder of run directories.
        cluster: `auto`, `local` or an address, as `--cluster`.
        say: told the lines for people.

    Raises:
        InputError: the space, the data or the sweep directory cannot be used.
        Interrupted: a signal came; the same call continues.
    """
    from raysl.tune.spaces import space_file as spaces
    from raysl.tune.sweep import sweep

    loaded = spaces.load_space(space, overrides)
    path = directory(runs, name or loaded.name)
    with connect(cluster) as ray:
        say(ray.describe())
        return sweep(loaded, path, say=say)


def plan_sweep(space: str | Path, job: Job) -> dict[str, Any]:
    """Check everything `sweep` would check and return its plan; nothing is started or written.

    Returns:
        Plain values: the space, the data, where it would run, the sweep directory and the lines for people.
    """
    from raysl.tune.planning.plan import plan_sweep
    from raysl.tune.spaces import space_file as spaces

    loaded = spaces.load_space(space, job.overrides)
    path, where = directory(job.runs, job.name or loaded.name), job.would_use()
    job.say(where)
    plan = plan_sweep(loaded)
    lines = [*plan.lines, f"would write {path}"]
    return {"sweep": str(path), "where": where, **plan.facts(), "lines": lines}


def evaluate(
    run: str | Path,
    protocol: str = "knn",
    *,
    overrides: Sequence[str] = (),
    checkpoint: str = "last",
    split: str = "test",
    baselines: bool = False,
    name: str | None = None,
) -> EvaluationResult:
    """Judge a run's encoder by a protocol; the result is also written into the run.

    Args:
        run: run directory, or a checkpoint in one.
        protocol: `knn`, `knn-few`, `linear-cached` or `lbfgs`.
        overrides: `key=value` options of the protocol, of `features.*`, and where labelled images are
            (`data.test`).
        checkpoint: `last`, `best`, or a checkpoint's name.
        split: `test` or `selection`.
        baselines: judge raw pixels and the untrained encoder as well.
        name: name of the result's file; made from the arguments when not given.

    Raises:
        InputError: no such run, checkpoint, protocol or split, or the data has no labels.
    """
    from raysl.evaluation.evaluate import evaluate

    return evaluate(
        run, protocol, overrides, checkpoint=checkpoint, split=split, baselines=baselines, name=name
    )


def plan_evaluate(run: str | Path, protocol: str = "knn", **options: Any) -> dict[str, Any]:
    """Check everything `evaluate` would check and return its plan; nothing is computed or written.

    Args:
        run: run directory, or a checkpoint in one.
        protocol: as for `evaluate`.
        options: the other arguments of `evaluate`.
    """
    from raysl.evaluation.evaluate import prepare_evaluation

    return prepare_evaluation(run, protocol, **options).facts()


def load_backbone(run: str | Path, checkpoint: str = "last") -> Backbone:
    """Return a run's encoder as a plain torch module in evaluation mode.

    Args:
        run: run directory.
        checkpoint: `last`, `best`, or a checkpoint's name.

    Returns:
        A module from float images (N, C, H, W), normalised as in training, to features (N, `features`).

    Raises:
        InputError: no such run or checkpoint.
    """
    from raysl.evaluation.features import load_backbone

    return load_backbone(run, checkpoint)
