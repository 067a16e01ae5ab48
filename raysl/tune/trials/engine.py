"""Ray Tune as the engine: processes, placement and the event loop, the rest of it switched off."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from raysl.data.feeds import share_out
from raysl.train.session import TrainData
from raysl.tune.bridge import Bridge
from raysl.tune.trials.gang import Gang

# Read by Tune when a run begins. Its loggers, snapshots and console reports are replaced by ours.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


def run(bridge: Bridge, gang: Gang, data: Sequence[TrainData], loop: Any | None) -> None:
    """Run trials until the bridge has no more.

    Args:
        bridge: decides what runs and when it stops.
        gang: what a trial needs.
        data: the images of each form of the trials; put into the object store once.
        loop: another training loop, for tests.
    """
    import ray
    from ray import tune

    from raysl.tune.trials.gangs import Gangs
    from raysl.tune.trials.scheduler import StudyScheduler
    from raysl.tune.trials.search import StudySearcher
    from raysl.tune.trials.standby import Standby
    from raysl.tune.trials.trainable import TrialTrainable

    scratch = bridge.directory / ".tune"
    shutil.rmtree(scratch, ignore_errors=True)
    for images in data:
        share_out(images.train, bridge.slots * gang.workers)
    # A list, because Ray would put the images a second time where they are given directly.
    shared = [ray.put((images, loop)) for images in data]
    gangs = Gangs(gang) if gang.workers > 1 else None
    board = gangs.board if gangs is not None else None
    trainable = tune.with_parameters(TrialTrainable, shared=shared, board=board)
    if bridge.space.config.warm_spare and gangs is None and not gang.gpus:
        # A process cannot be given another's GPU, nor its workers.
        bridge.standby = Standby(shared)
    with _quiet(bridge.slots):
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory(gang.held_by_tune)),
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(bridge),
                scheduler=StudyScheduler(bridge, gangs),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch.absolute()),
                verbose=0,
                # A dead process is counted, and started again, by the ledger.
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        finally:
            if bridge.standby is not None:
                bridge.standby.end()
            if gangs is not None:
                gangs.end()
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _quiet(slots: int) -> Iterator[None]:
    """Set Tune's variables for the length of a run and silence what it logs about trials."""
    wanted = _ENVIRONMENT | {"TUNE_MAX_PENDING_TRIALS_PG": str(slots)}
    before = {name: os.environ.get(name) for name in wanted}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(wanted)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
