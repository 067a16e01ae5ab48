"""Tune's searcher over the bridge."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from raysl.tune.agenda import Answer
from raysl.tune.bridge import Bridge


class StudySearcher(Searcher):
    """Hands out attempts. Its state is the ledger, so what Tune pickles of it is empty.

    Args:
        bridge: decides what runs.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """Return the config of the next attempt, None for later, or FINISHED."""
        found = self._bridge.next(trial_id)
        if isinstance(found, Answer):
            return None if found is Answer.LATER else Searcher.FINISHED
        return {"launch": found}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take note of a process that died; every other end is decided where its message arrives."""
        if error:
            self._bridge.lost(trial_id, "error", "Ray Tune gave the attempt up")

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}
