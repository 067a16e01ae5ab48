"""A process that runs trials for Ray Tune."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray import tune

from raysl.tune.trials.messages import Launch


class TrialTrainable(tune.Trainable):
    """Runs one trial after another: imports are paid for once.

    A result holds `number`, `fence` and `message` (a `Row` or an `End`). Tune's own checkpoints are not used:
    the loop writes its own, and goes on from the last good one.
    """

    def setup(self, config: dict[str, Any], shared: Any = None, board: Any = None) -> None:
        """Import everything and begin the first trial.

        Args:
            config: `launch`, a `Launch`.
            shared: for each form of the trials, a reference to (images, loop) in the object store.
            board: handle of the sweep's `Board`, where trials have several workers.
        """
        gang = None if board is None else _gangs(shared, board)
        from raysl.tune.trials.runner import TrialRunner

        self._runner = TrialRunner(lambda fidelity: ray.get(shared[fidelity]), gang)
        self._begin(config["launch"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.cleanup()
        self._begin(new_config["launch"])
        return True

    def step(self) -> dict[str, Any]:
        """Return the next epoch, or how the trial has ended."""
        launch = self._launch
        message = ray.get(launch.standby.next.remote()) if launch.standby is not None else self._runner.next()
        return {"number": launch.number, "fence": launch.fence, "message": message}

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._runner.finish()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the loop writes its own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the loop finds its own checkpoints."""

    def _begin(self, launch: Launch) -> None:
        self._launch = launch
        if launch.standby is None:
            self._runner.begin(launch)


def _gangs(shared: Any, board: Any) -> Callable[[Launch], Iterator[int]]:
    """Return what runs a trial in workers of its own."""
    from raysl.cluster.environment import DEFAULTS

    # On a Ray that was joined nobody has set them here; Ray Train reads them when it is imported.
    # The watcher is a process more for each attempt, and tells workers of what they do not use.
    for name, value in (DEFAULTS | {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}).items():
        os.environ.setdefault(name, value)
    from raysl.tune.trials.gang_trial import gang_epochs

    return lambda launch: gang_epochs(launch, shared[launch.fidelity], board)
