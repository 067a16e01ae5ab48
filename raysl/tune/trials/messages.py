"""What crosses between a sweep's driver and a trial's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raysl.train.config import RunConfig


@dataclass(frozen=True)
class Launch:
    """One attempt at a trial.

    Args:
        number: the trial.
        fence: the attempt.
        recorded: epochs that the ledger has; what the run directory has beyond them is reported first.
        directory: the trial's run directory, absolute: processes have working directories of their own.
        config: the trial's whole config.
        fidelity: which of the sweep's forms it has, and so which images.
        threads: CPU threads to compute with.
        stop_file: when this file appears, save at the next step and end.
        standby: handle of the process that runs it in place of the one that is asked to.
    """

    number: int
    fence: int
    recorded: int
    directory: str
    config: RunConfig
    fidelity: int
    threads: int
    stop_file: str
    standby: Any = None


@dataclass(frozen=True)
class Row:
    """A recorded epoch.

    Args:
        epoch: completed epochs, from 1.
        time: Unix time at which it was recorded.
        metrics: its metrics.
    """

    epoch: int
    time: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """A trial's own end, other than its last epoch.

    Args:
        cause: `nan`, `inf`, `collapse`, `oom`, `error`, `killed`, `interrupted`, or `fenced` where a newer
            attempt has taken over.
        reason: a sentence for people.
        died: whether it is the end of the attempt only, because a worker of several is gone.
    """

    cause: str
    reason: str
    died: bool = False


def unpack(result: dict[str, Any]) -> tuple[int, int, Row | End]:
    """Return (trial, attempt, message) of a result as Tune hands it over."""
    message = result["message"]
    if not isinstance(message, Row | End):
        raise TypeError(
            f"expected a Row or an End from trial {result['number']}, got {type(message).__name__}"
        )
    return result["number"], result["fence"], message
