"""The driver's side of trials with several workers: it tells them to leave, and removes what is left of them.

Ray Train removes a run's placement group at the end of the run. Where the run's own process dies, nobody does
before the driver's end: Ray keeps the group for the job. Ray's helper for this needs the dashboard, and
knows a group only once its workers have started.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from raysl.tune.trials.board import Board
from raysl.tune.trials.gang import Gang
from raysl.tune.trials.messages import Launch

_log = logging.getLogger("raysl")
_LOOK_S, _LOST_S, _END_S = 0.5, 1.5, 20.0


class Gangs:
    """All trials with several workers of a sweep. A Ray must be connected.

    Args:
        gang: what each of them needs.
    """

    def __init__(self, gang: Gang) -> None:
        import ray

        self._gang = gang
        # A new board knows nothing: the trials that asked the one before end as killed, and are run again.
        self.board: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leftovers", daemon=True)
        self._thread.start()

    def leave(self, launch: Launch) -> None:
        """Tell the workers of an attempt to leave; its process hears of it only with its next trial."""
        self.board.stop.remote((launch.number, launch.fence))

    def lost(self, launch: Launch) -> None:
        """Remove what is left of an attempt whose process is gone, so that the next one has its room."""
        self.leave(launch)
        _wait_for(lambda: remove_leftovers(self._gang) > 0, _LOST_S)

    def end(self) -> None:
        """Wait until no worker holds anything, and remove what is left of those that were killed."""
        import ray

        self._over.set()
        self._thread.join()
        self.board.stop_all.remote()
        _wait_for(self._nothing_left, _END_S)
        ray.kill(self.board)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            try:
                remove_leftovers(self._gang)
            except Exception as error:  # Ray may be back at the next look; without it the sweep ends anyway
                _log.warning("looking for placement groups that nobody needs failed: %s", error)

    def _nothing_left(self) -> bool:
        remove_leftovers(self._gang)
        return not made_by_actors(self._gang)


def _wait_for(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)


def remove_leftovers(gang: Gang) -> int:
    """Remove the placement groups of gangs whose makers are dead, with all that still runs in them.

    Args:
        gang: what they were made for.

    Returns:
        How many there were.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    found = [group for group, dead in made_by_actors(gang).items() if dead]
    for group in found:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group)))
    return len(found)


def made_by_actors(gang: Gang) -> dict[bytes, bool]:
    """Return the placement groups that actors of this driver's job made for a gang: whether each is dead."""
    import ray

    # What Ray documents does not tell who made a group.
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    table: Any = gcs_pb2.PlacementGroupTableData  # type: ignore[attr-defined]  # made when it is imported
    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    nobody = ray.ActorID.nil().binary()
    found = {}
    for text in state._connect_and_get_accessor().get_placement_group_table():
        group = table.FromString(text)
        ours = group.creator_job_id == job and group.creator_actor_id not in (b"", nobody)
        bundles = [dict(bundle.unit_resources) for bundle in group.bundles]
        if ours and bundles == [gang.bundle] * gang.workers and group.state != table.REMOVED:
            found[group.placement_group_id] = bool(group.creator_actor_dead)
    return found
