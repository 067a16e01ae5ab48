"""Tune's scheduler over the bridge; only a scheduler can stop a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raysl.tune.bridge import Bridge
from raysl.tune.trials.gangs import Gangs
from raysl.tune.trials.messages import unpack


class StudyScheduler(FIFOScheduler):
    """Writes each message to the ledger and does what the bridge says about it.

    Args:
        bridge: decides.
        gangs: the workers of trials, where they have several.
    """

    def __init__(self, bridge: Bridge, gangs: Gangs | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bridge, self._gangs = bridge, gangs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether Tune stops the attempt or asks for its next epoch."""
        stop = self._bridge.receive(trial.trial_id, *unpack(result))
        if stop and self._gangs is not None:
            self._gangs.leave(trial.config["launch"])
        answer: str = TrialScheduler.STOP if stop else TrialScheduler.CONTINUE
        return answer

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tell the bridge why an attempt's process is gone; Tune's searcher is told only that it is."""
        if self._gangs is not None:
            self._gangs.lost(trial.config["launch"])
        self._bridge.lost(trial.trial_id, *_cause(trial))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the attempt that begins next; once the sweep is over, take back those that wait for room.

        Tune asks at every step, also while the cluster is full and no message comes from anywhere.
        """
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING]
        if not waiting or not self._bridge.is_over():
            return super().choose_trial_to_run(tune_controller)
        for trial in waiting:
            self._bridge.withdraw(trial.trial_id)
            tune_controller.stop_trial(trial)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _cause(trial: Any) -> tuple[str, str]:
    """Return (cause, detail) from the error that Tune has written next to the attempt."""
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return "error", "for a reason Ray Tune did not keep"
    error = cloudpickle.loads(Path(path).read_bytes())
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, OutOfMemoryError):
        return "oom", lines[0]
    error = getattr(error, "cause", None) or error
    # A process that could not even begin has an error of its own, which ends the trace that Ray gives.
    if isinstance(error, RayActorError) and not getattr(error, "actor_init_failed", False):
        return "killed", "its process was killed or crashed"
    return "error", lines[-1]
