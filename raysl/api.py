"""What raysl does, as functions; the commands call these and print.

run = raysl.pretrain("digits/simclr", overrides=["train.epochs=5"])
raysl.evaluate(run.run, "knn").metrics
best = raysl.sweep("matrix_ssl", overrides=["trials=16"])
backbone = raysl.load_backbone(best.best_run)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl.cluster.address import resolve
from raysl.cluster.connect import connect
from raysl.config import load
from raysl.errors import InputError
from raysl.machine import allocation
from raysl.train.config import RunConfig

if TYPE_CHECKING:
    from raysl.data.config import DataConfig
    from raysl.evaluation.result import EvaluationResult
    from raysl.models.backbones import Backbone
    from raysl.train.pretrain import PretrainResult
    from raysl.train.scale import ScaleRequest
    from raysl.train.scaled import Scaled
    from raysl.tune.sweep import SweepResult
    from raysl.verify.certificate import Verification

Source = str | Path | Mapping[str, Any]
Say = Callable[[str], None]


def silent(line: str) -> None:
    """Tell nobody."""


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
    config = _config(sources, overrides)
    path = _place(runs, name or default_name(sources, overrides, config))
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


def plan_pretrain(
    *sources: Source,
    overrides: Sequence[str] = (),
    name: str | None = None,
    runs: str | Path = "runs",
    cluster: str = "auto",
    say: Say = silent,
) -> dict[str, Any]:
    """Check everything `pretrain` would check and return its plan; nothing is started or written.

    Returns:
        Plain values: data, steps, workers, where it will run, the run directory and the lines for people.
    """
    from raysl.data.feeds import choose_feed
    from raysl.train.pretrain import needs_ray, prepare

    target = resolve(cluster)
    config = _config(sources, overrides)
    path = _place(runs, name or default_name(sources, overrides, config))
    if target.address is None:
        _require_room(config)
    choice = choose_feed(config.data)
    first = _would_use(cluster) if needs_ray(config, choice) else describe_here()
    say(first)
    # Where no Ray is connected, threads do what its tasks would.
    prepared = prepare(config, choice)
    workers = f"{config.launch.workers} workers on Ray Train" if config.launch.workers > 1 else "this process"
    lines = [*prepared.lines, f"would train in {workers}", f"would write {path}"]
    return {"run": str(path), "where": first, **prepared.facts(), "config": config.to_dict(), "lines": lines}


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
    from raysl.tune import space as spaces
    from raysl.tune.sweep import sweep

    loaded = spaces.load_space(space, overrides)
    path = _place(runs, name or loaded.name)
    with connect(cluster) as ray:
        say(ray.describe())
        return sweep(loaded, path, say=say)


def plan_sweep(
    space: str | Path,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    runs: str | Path = "runs",
    cluster: str = "auto",
    say: Say = silent,
) -> dict[str, Any]:
    """Check everything `sweep` would check and return its plan; nothing is started or written.

    Returns:
        Plain values: the space, the data, where it would run, the sweep directory and the lines for people.
    """
    from raysl.tune import space as spaces
    from raysl.tune.sweep import plan_sweep

    loaded = spaces.load_space(space, overrides)
    path = _place(runs, name or loaded.name)
    where = _would_use(cluster)
    say(where)
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


def plan_evaluate(
    run: str | Path,
    protocol: str = "knn",
    *,
    overrides: Sequence[str] = (),
    checkpoint: str = "last",
    split: str = "test",
    baselines: bool = False,
    name: str | None = None,
) -> dict[str, Any]:
    """Check everything `evaluate` would check and return its plan; nothing is computed or written."""
    from raysl.evaluation.evaluate import prepare_evaluation

    return prepare_evaluation(
        run, protocol, overrides, checkpoint=checkpoint, split=split, baselines=baselines, name=name
    ).facts()


def verify(
    *methods: str,
    overrides: Sequence[str] = (),
    workers: Sequence[int] = (1, 2, 4),
    vectors: str | Path | None = None,
    say: Say = silent,
) -> Verification:
    """Certify methods: against their authors' code, on several workers against one, in bf16 against float32.

    Workers are processes of this machine; a script that calls this needs `if __name__ == "__main__":`.

    Args:
        methods: names, `all`, or methods of one's own as `./my_loss.py:MyMethod`.
        overrides: `key=value` strings for the run that is compared, the method's digits recipe.
        workers: numbers of workers.
        vectors: directory of reference vectors; those that ship with raysl when not given.
        say: told what is being done.

    Raises:
        InputError: the arguments cannot be used. What fails is in the result instead.
    """
    from raysl.verify.certificate import verify

    return verify(
        methods, overrides=overrides, workers=workers, vectors=Path(vectors) if vectors else None, say=say
    )


def scale(
    *sources: Source, request: ScaleRequest, to: str | Path | None = None, overrides: Sequence[str] = ()
) -> Scaled:
    """Write the config of a larger run, and say of every value what becomes of it and why.

    Args:
        sources: the small run: recipe names, YAML files (`runs/SWEEP/best.yaml`) or mappings.
        request: the batch, workers, epochs, image size and data of the big run.
        to: the file to write; in this folder, and named after the source and the batch, when not given.
        overrides: `dotted.key=value` strings, applied to the small run.

    Raises:
        InputError: a source cannot be used, the batch does not divide among the workers, or the file is
            there.
    """
    from raysl.train.scale import scale
    from raysl.train.scaled import write_scaled

    config = _config(sources, overrides)
    big, changes = scale(config, request, _images(config.data, request.data))
    stem = default_name(sources, overrides, config)
    path = Path(f"{stem}-b{request.batch_size}.yaml") if to is None else Path(to)
    return write_scaled(path, big, changes, given=sources[-1])


def _images(data: DataConfig, other: str | None) -> tuple[int, int] | None:
    """Count the training images of the small and the big run; None where they are not all here."""
    from raysl.data.sources import count_training

    try:
        small = count_training(data)
        if other is None or other == data.source:
            return small, small
        return small, count_training(data.model_copy(update={"source": other}))
    except InputError:
        return None


def describe_here(cluster: str = "auto") -> str:
    """Return the first line of a command that computes in this process: no Ray, and what there is.

    Raises:
        InputError: `cluster` could not be used if a Ray were needed.
    """
    resolve(cluster)
    return f"Ray: none (in this process), {allocation().describe()}"


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


def default_name(sources: Sequence[Source], overrides: Sequence[str], config: RunConfig) -> str:
    """Return the run's name: its last source, and where that does not say all of it a digest of the config.

    The same arguments give the same name, so the same command continues its run.
    """
    last = sources[-1]
    stem = config.method.name
    if not isinstance(last, Mapping):
        path = Path(last)
        # runs/<sweep>/best.yaml is best known by its sweep; a recipe by its whole name.
        stem = f"{path.parent.name}-{path.stem}" if path.suffix else str(last)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")
    if overrides or len(sources) > 1 or isinstance(last, Mapping):
        digest = hashlib.sha256(json.dumps(config.identity(), sort_keys=True).encode()).hexdigest()
        name += f"-{digest[:6]}"
    return name


def _place(runs: str | Path, name: str) -> Path:
    """Return the directory of a name below `runs`.

    Raises:
        InputError: the name is no plain name.
    """
    if Path(name).name != name or name in {"", ".", ".."}:
        raise InputError(f"--name {name!r}: expected a plain name; --runs says in which folder")
    return Path(runs) / name


def _require_room(config: RunConfig) -> None:
    """Refuse workers that a private Ray on this machine could never hold.

    Raises:
        InputError: says what is wanted and what there is.
    """
    there, wanted = allocation().cpus, config.launch.workers * config.launch.cpus_per_worker
    if config.launch.workers > 1 and wanted > there:
        raise InputError(
            f"launch.workers = {config.launch.workers}: wants {wanted:g} CPUs, but there are {there} here; "
            "use fewer workers, or --cluster ADDRESS"
        )


def _config(sources: Sequence[Source], overrides: Sequence[str]) -> RunConfig:
    if not sources:
        raise InputError(
            "no recipe given; name one (raysl config list) or a YAML file, such as digits/matrix_ssl"
        )
    return load(RunConfig, sources, overrides)


def _would_use(cluster: str) -> str:
    target = resolve(cluster)
    if target.address is None:
        return f"Ray: would start a private one here, {allocation().describe()}"
    return f"Ray: would join {target.address} ({target.asked_by})"
