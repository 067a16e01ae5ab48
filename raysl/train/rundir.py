"""The run directory: the only interface between commands.

    config.yaml  environment.json  data.json  rejected.jsonl (unreadable images)  metrics.jsonl  status.json
    checkpoints/  tensorboard/  evaluation/  method/ (the file of a user's own method)

Two guards keep it whole. A *lock* (one process at a time) is held by whoever drives the run. A *fence* (a
number that only grows) is carried by whoever computes it: each attempt takes a larger number, and a process
left over from an earlier attempt is refused at its next write. Records are only ever added; nothing recorded
is changed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from raysl.config import RECIPES, build, difference, merge, yaml
from raysl.errors import Fenced, InputError, not_written
from raysl.train.atomic import write_atomically
from raysl.train.method_copy import about_method, keep_method

if TYPE_CHECKING:
    from raysl.train.config import RunConfig


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk.

    Args:
        path: its folder; need not exist yet.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def evaluation(self) -> Path:
        """Folder of evaluation results, one JSON each."""
        return self.path / "evaluation"

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Return an existing run.

        Raises:
            InputError: there is no run at that path.
        """
        run = cls(Path(path))
        if not (run.path / "config.yaml").is_file():
            raise InputError(
                f"{path}: not a run directory (it has no config.yaml); raysl ls shows the runs there are"
            )
        return run

    def prepare(self, config: RunConfig) -> bool:
        """Create the run, or check that it is a run of this config.

        Returns:
            True when it was there already and is to be continued.

        Raises:
            InputError: the folder holds a run of another config (the message lists the differences) or
                something else.
        """
        file = self.path / "config.yaml"
        if file.exists():
            before = self.config()
            recorded = self.recorded()
            if config.train.epochs < recorded:
                raise InputError(
                    f"{self.path}: has {recorded} epochs already; give train.epochs >= {recorded}"
                )
            changed = difference(before.identity(), config.identity())
            if changed:
                raise InputError(
                    f"{self.path}: holds a run of another config ({'; '.join(changed)}); "
                    "choose another --name, or give the same values to continue it"
                    + about_method(changed, self.path)
                )
            keep_method(self.path, config)
            if before != config:
                write_atomically(file, yaml.dump(config.to_dict()))
            return True
        self.refuse_foreign()
        self.path.mkdir(parents=True, exist_ok=True)
        keep_method(self.path, config)
        write_atomically(file, yaml.dump(config.to_dict()))
        return False

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds something else than a run, before anything is written into it.

        Raises:
            InputError: it does.
        """
        if (self.path / "config.yaml").exists() or not self.path.is_dir():
            return
        if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise InputError(f"{self.path}: not empty and not a run directory; choose another --name")

    def config(self) -> RunConfig:
        """Return the run's resolved config."""
        # Here, because it brings torch along, which listing runs does not need.
        from raysl.train.config import RunConfig

        return build(RunConfig, *merge([self.path / "config.yaml"], (), RECIPES))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against other processes.

        Raises:
            InputError: another live process holds it, or there can be no directory at its path.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be a run directory ({error.strerror}); choose another"
            ) from None
        with open(self.path / ".lock", "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise InputError(
                    f"{self.path}: in use by {holder}; wait for it, stop it, or choose another --name"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    def claim(self, fence: int | None = None) -> int:
        """Become the run's only writer.

        Args:
            fence: the attempt's number; one more than the last when not given.

        Returns:
            The number now in force.

        Raises:
            Fenced: a larger number is in force already.
        """
        with self._fence_file() as file:
            current = int(file.read() or 0)
            if fence is not None and fence < current:
                raise Fenced(f"{self.path}: attempt {fence} is over; attempt {current} has taken its place")
            claimed = current + 1 if fence is None else fence
            file.seek(0)
            # The number never gets shorter, so it is written over: no moment without one, no space needed.
            file.write(str(claimed))
            file.flush()
            os.fsync(file.fileno())
        return claimed

    @contextmanager
    def writing(self, fence: int) -> Iterator[None]:
        """Hold the right to write for the length of a block.

        Raises:
            Fenced: a newer attempt has taken the run over.
        """
        with self._fence_file() as file:
            current = int(file.read() or 0)
            if current != fence:
                raise Fenced(f"{self.path}: attempt {fence} is over; attempt {current} has taken its place")
            yield

    @contextmanager
    def _fence_file(self) -> Iterator[IO[str]]:
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".fence", os.O_RDWR | os.O_CREAT, 0o644)
        with open(descriptor, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def metrics(self) -> list[dict[str, Any]]:
        """Return the recorded reports, `{"epoch": 1, "time": ..., "metrics": {...}}` each, by epoch.

        A last line that a crash left unfinished is not a record and is left out.

        Raises:
            InputError: a line before the last is not a report.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        lines = file.read_bytes().split(b"\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise InputError(
                f"{file}: damaged, a line is not a report ({error}); put it right or remove it"
            ) from None

    def recorded(self) -> int:
        """Return the number of epochs on record."""
        rows = self.metrics()
        return int(rows[-1]["epoch"]) if rows else 0

    def append_metrics(self, fence: int, row: Mapping[str, Any]) -> None:
        """Add one report, durably; a torn last line is cut off first.

        Raises:
            Fenced: a newer attempt has taken the run over.
            RayslError: it cannot be written (a full disk, say); the reports before it stay whole.
        """
        line = json.dumps(row).encode() + b"\n"
        # Unbuffered, so that nothing of a line that did not fit is written later.
        with self.writing(fence), open(self.path / "metrics.jsonl", "a+b", buffering=0) as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(whole)
                raise not_written(self.path / "metrics.jsonl", error) from None

    def status(self) -> dict[str, Any]:
        """Return the run's state: `state` is created, running, completed, interrupted, stopped or failed.

        A run that says it is running while its process is gone from this host is reported as interrupted.
        """
        file = self.path / "status.json"
        if not file.exists():
            return {"state": "created"}
        status: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        here = status.get("host") == socket.gethostname()
        if status["state"] == "running" and here and not _alive(int(status["pid"])):
            status |= {"state": "interrupted", "detail": "its process is gone"}
        return status

    def set_status(self, state: str, **details: Any) -> None:
        """Record the run's state with the process, host and time."""
        status = {
            "state": state,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.time(),
            **details,
        }
        write_atomically(self.path / "status.json", json.dumps(status, indent=1))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
