"""Around a sweep: checking its space, seeing how it stands, stopping, extending, replaying, simulating it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysl.api.job import Say, silent
from raysl.cluster.connect import connect
from raysl.errors import InputError
from raysl.machine import allocation

if TYPE_CHECKING:
    from raysl.tune.control import Stopped
    from raysl.tune.extend import Extension
    from raysl.tune.planning.check_space import SpaceCheck
    from raysl.tune.replay import Replay
    from raysl.tune.simulation.simulations import Simulations
    from raysl.tune.status import Status
    from raysl.tune.sweep import SweepResult


def sweep_check(
    space: str | Path,
    *,
    overrides: Sequence[str] = (),
    nodes: int = 1,
    cpus: float | None = None,
    gpus: float | None = None,
) -> SpaceCheck:
    """Check a search space offline: no data is read, no Ray is started. Its mistakes are in the result.

    Args:
        space: name or path of a search space.
        overrides: `key=value` strings, as for `sweep`.
        nodes: nodes of the cluster that it is meant for.
        cpus: CPUs of each node; this machine's when not given.
        gpus: GPUs of each node; this machine's when not given, none where `cpus` is.

    Raises:
        InputError: there is no such file, it is no YAML mapping, or a size cannot be.
    """
    from raysl.tune.planning.check_space import check_space

    for name, value in (("--nodes", nodes), ("--cpus", cpus), ("--gpus", gpus)):
        if value is not None and (value < 0 or (value == 0 and name != "--gpus")):
            raise InputError(f"{name} {value:g}: expected a number above 0")
    here = allocation()
    node = {
        "CPU": float(here.cpus if cpus is None else cpus),
        "GPU": float(gpus if gpus is not None else here.gpus if cpus is None else 0),
    }
    return check_space(space, overrides, [node] * nodes)


def sweep_status(run: str | Path) -> Status:
    """Return how a sweep stands, while it runs or not; nothing is written.

    Args:
        run: its directory.

    Raises:
        InputError: there is no sweep, or nothing is on record yet.
    """
    from raysl.tune.status import status

    return status(run)


def sweep_stop(run: str | Path, *, wait_s: float = 120.0, say: Say = silent) -> Stopped:
    """Make the driver of a sweep, on this host or another, save and stop, and wait until it has.

    Args:
        run: its directory.
        wait_s: seconds to wait.
        say: told who is asked.

    Raises:
        InputError: there is no sweep.
        RayslError: it has not stopped in time; it stays asked to.
    """
    from raysl.tune.control import stop

    return stop(run, wait_s=wait_s, say=say)


def plan_sweep_extend(run: str | Path, overrides: Sequence[str]) -> Extension:
    """Return what `sweep_extend` would change; nothing is written or started.

    Args:
        run: the sweep's directory.
        overrides: `key=value` strings.

    Raises:
        InputError: there is no sweep, or a key cannot change within one.
    """
    from raysl.tune.extend import extended

    return extended(run, overrides)


def sweep_extend(
    run: str | Path, *, overrides: Sequence[str], cluster: str = "auto", say: Say = silent
) -> SweepResult:
    """Change what may change of a sweep (trials, budget, prices, seeds of the best, ...) and go on with it.

    Args:
        run: its directory.
        overrides: `key=value` strings.
        cluster: `auto`, `local` or an address, as `--cluster`.
        say: told the lines for people.

    Raises:
        InputError: there is no sweep, a key cannot change within one, or another driver runs it.
        Interrupted: a signal came, or a stop was asked for; `sweep_extend` with the same values continues.
    """
    from raysl.tune.extend import extended
    from raysl.tune.sweep import sweep

    extension = extended(run, overrides)
    say(extension.describe())
    with connect(cluster) as ray:
        say(ray.describe())
        return sweep(extension.space, run, say=say)


def sweep_export(run: str | Path, output: str | Path) -> int:
    """Write a sweep's trials and curves as one table, a row for each epoch.

    A trial that ended before its first epoch has one row, without an epoch. JSON has null for NaN and
    infinity.

    Args:
        run: its directory.
        output: a file that ends in .parquet, .csv or .json.

    Returns:
        The number of rows.

    Raises:
        InputError: there is no sweep, nothing is on record, or the file has another ending or is a folder.
        RayslError: the file cannot be written.
    """
    from raysl.tune.records.export import check_suffix, export_table, write_table
    from raysl.tune.records.record import read_record

    path = Path(output)
    check_suffix(path)
    table = export_table(read_record(run))
    write_table(table, path)
    return int(table.num_rows)


def sweep_replay(run: str | Path) -> Replay:
    """Compute every suggestion and decision of a sweep again from its record, and compare bit for bit.

    Args:
        run: its directory.

    Raises:
        InputError: there is no sweep.
    """
    from raysl.tune.replay import replay

    return replay(run)


def sweep_simulate(
    space: str | Path,
    curves: str | Path,
    *,
    overrides: Sequence[str] = (),
    slots: int | None = None,
    seeds: int = 1,
    within: float = 0.5,
    say: Say = silent,
) -> Simulations:
    """Run a sweep over recorded curves in place of training: the real sampler and rules, no time.

    Args:
        space: name or path of a search space.
        curves: a table of `sweep_export`.
        overrides: `key=value` strings, as for `sweep`.
        slots: trials at a time; the space's `concurrent`, else 1.
        seeds: how many sweeps, with the sampler's seeds from 0 on.
        within: how near to the best on record counts as found, in the objective's unit.
        say: told of each seed.

    Raises:
        InputError: the space cannot be simulated, or the table does not fit it.
    """
    from raysl.tune.simulation.curves import read_curves
    from raysl.tune.simulation.simulations import simulate_seeds
    from raysl.tune.spaces.space_file import load_space

    loaded = load_space(space, overrides)
    return simulate_seeds(loaded, read_curves(Path(curves)), slots=slots, seeds=seeds, within=within, say=say)
