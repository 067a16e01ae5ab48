"""Where a study is kept: a journal file, made readable again after a crash, or a database."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from raysl.errors import InputError, RayslError
from raysl.tune.samplers.suggestion import quiet_optuna

Direction = Literal["maximize", "minimize"]


def repair_journal(path: Path) -> int:
    """Make a journal readable again after its writer was killed; only the holder of the lease may.

    Cuts what follows the last newline, which was never a record, and removes the lock its writer left behind.
    A last line that is whole but unreadable was a record, which is lost: cut as well, with a warning.

    Returns:
        Bytes cut.
    """
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink()
    if not path.exists():
        return 0
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    start = text.rfind(b"\n", 0, max(whole - 1, 0)) + 1
    if whole and not _is_json(text[start:whole]):
        logging.getLogger("raysl").warning(
            "%s: its last line cannot be read and is cut (%d bytes at %d); what it recorded is lost, "
            "so check the disk",
            path, whole - start, start,
        )  # fmt: skip
        whole = start
    if whole < len(text):
        with open(path, "r+b") as file:
            file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())
    return len(text) - whole


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def open_storage(where: str | Path) -> BaseStorage:
    """Open a journal by its path, repaired if need be, or a database by its URL.

    Raises:
        InputError: the database cannot be opened.
        RayslError: the journal is damaged before its last line.
    """
    if isinstance(where, Path):
        path = where.absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_journal(path)
        try:
            return JournalStorage(JournalFileBackend(str(path)))
        except (ValueError, KeyError) as error:
            raise RayslError(
                f"{path}: damaged before its last line ({error}); restore it from a copy"
            ) from None
    try:
        return RDBStorage(where)
    except Exception as error:  # SQLAlchemy and the drivers below it have a great many of their own
        raise InputError(f"ledger {where!r} cannot be opened: {str(error).splitlines()[0]}") from None


def open_study(storage: BaseStorage, name: str, directions: Sequence[Direction]) -> optuna.Study:
    """Return the study, made if it is not there; opening one that is there writes nothing."""
    with quiet_optuna():
        if any(summary.study_name == name for summary in storage.get_all_studies()):
            return optuna.load_study(study_name=name, storage=storage)
        return optuna.create_study(study_name=name, storage=storage, directions=list(directions))
