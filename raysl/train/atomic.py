"""Small files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from raysl.errors import not_written


def write_atomically(file: Path, text: str) -> None:
    """Write a whole small file or nothing: aside, synced, then renamed.

    Raises:
        RayslError: it cannot be written (a full disk, say).
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, file)
    except OSError as error:
        raise not_written(file, error) from None
    finally:
        aside.unlink(missing_ok=True)
