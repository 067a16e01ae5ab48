"""A sweep's record as anyone may read it, whoever drives the sweep."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from raysl.config import build
from raysl.errors import InputError
from raysl.tune.records.entry import Entry, Session
from raysl.tune.records.folder import read_space, study_name
from raysl.tune.records.ledger import read_study
from raysl.tune.records.storage import open_storage
from raysl.tune.spaces.resolve import Space
from raysl.tune.spaces.space import SpaceConfig


@dataclass(frozen=True)
class Record:
    """What a sweep has on record.

    Args:
        directory: the sweep's directory.
        space: its search space as it is now.
        trials: by number.
        sessions: the starts of its driver, in order.
    """

    directory: Path
    space: Space
    trials: Sequence[Entry]
    sessions: Sequence[Session]

    def space_at(self, seq: int) -> Space:
        """Return the search space as it was when a fact was written: starts may differ in some values."""
        session = next((one for one in reversed(self.sessions) if one.seq < seq), None)
        if session is None:
            return self.space
        values = self.space.config.to_dict() | session.changeable
        config = build(SpaceConfig, values)
        return self.space if config == self.space.config else Space(config)


def read_record(directory: str | Path) -> Record:
    """Read a sweep's record; nothing is written, and the sweep may go on meanwhile.

    Raises:
        InputError: the directory holds no sweep, or its ledger cannot be opened.
    """
    root = Path(directory)
    config = read_space(root)
    name = study_name(root)
    if config.ledger is not None:
        return _read(root, config, open_storage(config.ledger), name)
    journal = root / "study.log"
    if not journal.is_file():
        raise InputError(f"{root}: has no study.log; nothing of this sweep is on record")
    with tempfile.TemporaryDirectory() as folder:
        # A copy, because a journal must be repaired before it is read and only its writer may do that.
        copy = Path(folder) / journal.name
        shutil.copyfile(journal, copy)
        return _read(root, config, open_storage(copy), name)


def _read(root: Path, config: SpaceConfig, storage: optuna.storages.BaseStorage, name: str) -> Record:
    if not any(summary.study_name == name for summary in storage.get_all_studies()):
        return Record(root, Space(config), [], [])
    study = optuna.load_study(study_name=name, storage=storage)
    return Record(root, Space(config), *read_study(study))
