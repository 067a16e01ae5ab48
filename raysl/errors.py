"""The errors a user meets, and the exit code each one ends a command with.

Every error raised on purpose derives from `RayslError`. The command line prints its message as one
line and exits with `exit_code`; `--debug` adds the trace. Anything else that escapes is a bug.
"""

from __future__ import annotations

import errno
from pathlib import Path

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3
EXIT_INTERRUPTED = 75


class RayslError(Exception):
    """Something failed that is not the user's input (exit code 1)."""

    exit_code = EXIT_FAILURE


def not_written(path: Path | str, error: Exception) -> RayslError:
    """Return the error of a file that could not be written; a full disk is called one."""
    # safetensors wraps the system's error and gives its number in the text only.
    told = (f"os error {errno.ENOSPC})", f"code: {errno.ENOSPC},")
    full = getattr(error, "errno", None) == errno.ENOSPC or any(text in str(error) for text in told)
    why = "the disk is full; free some space and run the same command" if full else str(error)
    return RayslError(f"{path}: not written: {why}")


class InputError(RayslError):
    """A path, key, value or combination the user gave cannot be used (exit code 2).

    The message says what was expected and what to do.
    """

    exit_code = EXIT_BAD_INPUT


class TrainingStopped(RayslError):
    """Training ended itself because going on is pointless (exit code 3).

    Args:
        cause: a stable word for tables and ledgers: `nan`, `inf`, `singular` or `collapse`.
        detail: a sentence for people.
        epoch: completed epochs when it happened.
    """

    exit_code = EXIT_STOPPED

    def __init__(self, cause: str, detail: str, epoch: int) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail
        self.epoch = epoch

    def __reduce__(self) -> tuple[type[TrainingStopped], tuple[str, str, int]]:
        """Keep the three fields when the error crosses a process boundary."""
        return type(self), (self.cause, self.detail, self.epoch)


class Interrupted(RayslError):
    """Stopped on request with its state saved; the same command continues it (exit code 75)."""

    exit_code = EXIT_INTERRUPTED


class Fenced(RayslError):
    """A newer attempt owns this run directory; this process must write nothing more."""
