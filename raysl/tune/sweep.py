"""A sweep from its space to its winner; the same call continues one that was cut off."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.config import build, difference, nearest, yaml
from raysl.errors import InputError, Interrupted, RayslError
from raysl.train.atomic import write_atomically
from raysl.train.diagnostics import wants_knn
from raysl.train.interrupts import stop_on_signals
from raysl.train.method_copy import about_method, keep_source
from raysl.train.pretrain import prepare
from raysl.train.session import TrainData
from raysl.tune import engine
from raysl.tune.bridge import Bridge
from raysl.tune.entry import Entry
from raysl.tune.gang import Gang, living_nodes
from raysl.tune.lease import Lease
from raysl.tune.ledger import Ledger
from raysl.tune.outputs import write_best, write_hparams, write_trials
from raysl.tune.resolve import Space
from raysl.tune.space import Scalar, SpaceConfig
from raysl.tune.stopping import build_rule, check_stopping
from raysl.tune.view import SweepView, best_of, summary

# What may change between two calls: none of it changes a trial.
_FREE = ("concurrent", "attempts", "description", "warm_spare")
_TAGS = {"eval/knn_top1", "diag/rankme", "diag/embedding_std", "train/loss"}
_TAG_ROOMS = ("train/", "eval/", "diag/", "perf/")


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Args:
        directory: its directory.
        metric: the objective.
        best_trial: number of the best trial.
        best_value: its objective at its last epoch.
        best_params: its parameters.
        best_run: its run directory.
        best_config: its whole config as a file, for `raysl pretrain`.
        states: trials by state.
        causes: failed trials by cause.
    """

    directory: Path
    metric: str
    best_trial: int
    best_value: float
    best_params: dict[str, Scalar]
    best_run: Path
    best_config: Path
    states: dict[str, int]
    causes: dict[str, int]

    def describe(self) -> str:
        """Return the result in a few lines for people."""
        params = ", ".join(f"{key} = {value}" for key, value in self.best_params.items())
        states = ", ".join(f"{count} {state}" for state, count in self.states.items())
        causes = (
            f" ({', '.join(f'{count} {cause}' for cause, count in self.causes.items())})"
            if self.causes
            else ""
        )
        return (
            f"{states}{causes}\n"
            f"best: trial {self.best_trial}, {self.metric} = {self.best_value:.6g} ({params})\n"
            f"next: raysl pretrain {self.best_config}"
        )


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that has been checked and can start.

    Args:
        space: the search space with its recipes.
        data: decoded images.
        lines: what to tell the user before it starts.
    """

    space: Space
    data: TrainData
    lines: list[str]

    def facts(self) -> dict[str, Any]:
        """Return the plan as plain values, for `--dry-run --json`."""
        return {
            "space": self.space.config.to_dict(),
            "base": self.space.base.to_dict(),
            "epochs": self.space.epochs,
        }


def plan_sweep(config: SpaceConfig) -> SweepPlan:
    """Check a sweep and load its data; nothing is started or written.

    Raises:
        InputError: the space, a recipe or the data cannot be used, or the objective cannot be measured.
    """
    metric = config.objective.metric
    if not metric.startswith(_TAG_ROOMS):
        raise InputError(
            f"objective.metric = {metric!r}: expected a tag that starts with {', '.join(_TAG_ROOMS)}; "
            f"{nearest(metric, _TAGS)}"
        )
    space = Space(config)
    stopping = check_stopping(space)
    prepared = prepare(space.base)
    if metric.startswith("eval/knn") and not wants_knn(space.base, prepared.data):
        raise InputError(
            f"objective.metric = {metric!r}: needs labels, held-out images and diagnostics.knn; "
            "choose diag/rankme without"
        )
    lines = [
        *prepared.lines,
        f"{config.trials} trials of {space.epochs} epochs; {config.objective.direction} {metric}; "
        f"{config.sampler.name} seed {config.sampler.seed}; stopping: {stopping}",
        *(f"search {key}: {_domain(domain.to_dict())}" for key, domain in config.search.items()),
    ]
    return SweepPlan(space, prepared.data, lines)


def sweep(
    config: SpaceConfig,
    directory: str | Path,
    *,
    say: Callable[[str], None] = print,
    loop: Callable[..., Iterator[Any]] | None = None,
) -> SweepResult:
    """Run a sweep, or continue the one in this directory. A Ray must be connected.

    Args:
        config: the search space.
        directory: the sweep's directory.
        say: told the lines for people.
        loop: another training loop than `raysl.train.loop.epochs`; for tests.

    Raises:
        InputError: the space, the data or the directory cannot be used, or another driver runs this sweep.
        Interrupted: a signal came; the same call continues.
        RayslError: no trial completed.
    """
    root = Path(directory)
    plan = plan_sweep(config)
    _check_directory(root, plan.space)
    lease = Lease(root / "lease.json")
    lease.take()
    try:
        study = _claim_directory(root, plan.space)
        where = config.ledger or root / "study.log"
        ledger = Ledger(where, study, config.objective.direction, plan.space.epochs, lease)
        for line in plan.lines:
            say(line)
        _run(plan, root, ledger, say, loop)
        write_trials(root, ledger.trials)
        write_hparams(root, ledger.trials)
        return _result(root, plan.space, ledger.trials)
    finally:
        lease.release()


def _run(
    plan: SweepPlan,
    root: Path,
    ledger: Ledger,
    say: Callable[[str], None],
    loop: Callable[..., Iterator[Any]] | None,
) -> None:
    space, config = plan.space, plan.space.config
    if ledger.trials:
        say(f"continuing {root}: {summary(ledger.trials, config)}")
    if len(ledger.trials) >= config.trials and not ledger.running():
        return
    nodes = living_nodes()
    gang = Gang.of(space.base.launch, nodes)
    slots = min(gang.slots(nodes), config.concurrent or config.trials, config.trials)
    say(f"{slots} at a time, {gang.cpus:g} CPUs and {gang.gpus:g} GPUs each")
    rule = build_rule(config.stopping, space.epochs, config.objective.direction == "maximize")
    with SweepView(config, space.epochs, ledger.trials, say) as view, stop_on_signals() as asked:

        def changed(ended: Entry | None) -> None:
            view.update(ended)
            if ended is not None:
                write_trials(root, ledger.trials)

        bridge = Bridge(
            ledger,
            space,
            rule,
            root,
            slots,
            threads=max(1, int(gang.cpus)),
            changed=changed,
            stopped=asked,
        )
        engine.run(bridge, gang, plan.data, loop)
    if bridge.fatal is not None:
        raise (
            bridge.fatal if isinstance(bridge.fatal, RayslError) else RayslError(f"{bridge.fatal!r}")
        ) from bridge.fatal
    if ledger.running() or len(ledger.trials) < config.trials:
        raise Interrupted(f"{summary(ledger.trials, config)}; the same command continues")


def _check_directory(root: Path, space: Space) -> None:
    """Refuse a directory that holds something else, before anything is written into it.

    Raises:
        InputError: it holds a sweep of another space (the message lists the differences), or no sweep.
    """
    file = root / "space.yaml"
    if not file.exists():
        others = (
            [entry.name for entry in root.iterdir() if entry.name != "lease.json"] if root.is_dir() else []
        )
        if others:
            raise InputError(f"{root}: not empty and not a sweep's directory; choose another --name")
        return
    before = yaml.parse(file.read_text(encoding="utf-8"), str(file))
    old, base = build(SpaceConfig, before["space"]).to_dict(), before["base"]
    new = space.config.to_dict()
    for key in _FREE:
        old.pop(key, None), new.pop(key, None)
    changed = difference(old, new) + [f"(recipe) {line}" for line in difference(base, space.base.identity())]
    if not changed:
        # Those of a recipe are part of its identity; these are the choices of a searched method.name too.
        changed = [
            f"source_sha256 of {line}" for line in difference(before.get("own_methods", {}), _digests(space))
        ]
    if changed:
        raise InputError(
            f"{root}: holds a sweep of another space ({'; '.join(changed)}); "
            "choose another --name, or give the same space to continue it" + about_method(changed, root)
        )


def _digests(space: Space) -> dict[str, str]:
    return {reference: source.sha256 for reference, source in space.own_methods.items()}


def _claim_directory(root: Path, space: Space) -> str:
    """Keep the space, and what its recipes said, with the sweep; return the name of its study.

    The name is no other sweep's, because a database may hold the studies of many.
    """
    file = root / "space.yaml"
    if not file.exists():
        study = f"{space.config.name}-{uuid.uuid4().hex}"
        facts = {"study": study, "space": space.config.to_dict(), "base": space.base.identity()}
        write_atomically(file, yaml.dump({**facts, "own_methods": _digests(space)}))
    for source in space.own_methods.values():
        keep_source(root, source)
    return str(yaml.parse(file.read_text(encoding="utf-8"), str(file))["study"])


def _result(root: Path, space: Space, trials: Sequence[Entry]) -> SweepResult:
    best = best_of(trials, space.config)
    causes = Counter(entry.cause for entry in trials if entry.state == "failed")
    if best is None or best.value is None:
        first = next((entry.reason for entry in trials if entry.reason), "")
        raise RayslError(
            f"{root}: no trial completed ({summary(trials, space.config)}); the first ended because: {first}"
        )
    return SweepResult(
        directory=root,
        metric=space.config.objective.metric,
        best_trial=best.number,
        best_value=best.value,
        best_params=best.params,
        best_run=root / "trials" / str(best.number),
        best_config=write_best(root, space, best, trials),
        states=dict(Counter(entry.state for entry in trials)),
        causes=dict(causes),
    )


def _domain(values: dict[str, Any]) -> str:
    if values["type"] == "categorical":
        text = ", ".join(str(choice) for choice in values["choices"])
    else:
        text = f"{values['low']:g} to {values['high']:g}" + (" (log)" if values["log"] else "")
    when = " and ".join(f"{key} = {value}" for key, value in values["when"].items())
    return text + (f" when {when}" if when else "")
