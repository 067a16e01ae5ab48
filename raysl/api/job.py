"""What jobs have in common: where a run goes, by which Ray it is done, and what it is called."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.cluster.address import resolve
from raysl.config import load
from raysl.errors import InputError
from raysl.machine import allocation
from raysl.train.config import RunConfig

Source = str | Path | Mapping[str, Any]
Say = Callable[[str], None]


def silent(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Job:
    """What `pretrain`, `sweep` and `quickstart` have in common: as what, where and by which Ray it is done.

    Attributes:
        overrides: `key=value` strings, applied last.
        name: directory below `runs`; made from the arguments when not given.
        runs: folder of run directories.
        cluster: `auto`, `local` or an address, as `--cluster`.
        say: told the lines for people.
    """

    overrides: Sequence[str] = ()
    name: str | None = None
    runs: str | Path = "runs"
    cluster: str = "auto"
    say: Say = silent

    def would_use(self) -> str:
        """Return the first line of a plan that needs a Ray."""
        target = resolve(self.cluster)
        if target.address is None:
            return f"Ray: would start a private one here, {allocation().describe()}"
        return f"Ray: would join {target.address} ({target.asked_by})"


def directory(runs: str | Path, name: str) -> Path:
    """Return the directory of a run or sweep below `runs`.

    Raises:
        InputError: the name is no plain name.
    """
    if Path(name).name != name or name in {"", ".", ".."}:
        raise InputError(f"--name {name!r}: expected a plain name; --runs says in which folder")
    return Path(runs) / name


def describe_here(cluster: str = "auto") -> str:
    """Return the first line of a command that computes in this process: no Ray, and what there is.

    Raises:
        InputError: `cluster` could not be used if a Ray were needed.
    """
    resolve(cluster)
    return f"Ray: none (in this process), {allocation().describe()}"


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


def run_config(sources: Sequence[Source], overrides: Sequence[str]) -> RunConfig:
    """Return the config of a run.

    Raises:
        InputError: there is no source, or one cannot be used.
    """
    if not sources:
        raise InputError(
            "no recipe given; name one (raysl config list) or a YAML file, such as digits/matrix_ssl"
        )
    return load(RunConfig, sources, overrides)


def resolved(sources: Sequence[Source], job: Job) -> tuple[RunConfig, Path]:
    """Return a run's config and directory."""
    config = run_config(sources, job.overrides)
    return config, directory(job.runs, job.name or default_name(sources, job.overrides, config))


def require_room(config: RunConfig) -> None:
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
