"""The copy of a user's own method that stays beside a config, in a run, a sweep or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysl.train.atomic import write_atomically

if TYPE_CHECKING:
    from raysl.methods.own import Source
    from raysl.train.config import RunConfig


def keep_method(folder: Path, config: RunConfig) -> Path | None:
    """Keep the file of a user's own method beside a config, where reading the config finds it again.

    Args:
        folder: the config's folder; the file goes into its `method/`.
        config: the run.

    Returns:
        The copy; None where the method is installed.
    """
    from raysl.methods import own

    source = own.source_of(config.method)
    return None if source is None else keep_source(folder, source)


def keep_source(folder: Path, source: Source) -> Path:
    """Keep a method's file in `method/` of a folder, and beside another text that has its name there."""
    from raysl.methods import own

    text = source.text.encode()
    for copy in own.kept_as(folder, source.file_name, source.sha256):
        if copy.is_file() and copy.read_bytes() == text:
            return copy
        if not copy.exists():
            break
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(copy, source.text)
    return copy


def about_method(changed: Sequence[str], path: Path) -> str:
    """Say what a changed digest among the differences of two configs means.

    Args:
        changed: the differences, `key: old -> new`.
        path: the directory that keeps the method as it was.
    """
    if not any("source_sha256" in line for line in changed):
        return ""
    return f". The method's file has changed since it began; {path / 'method'} holds it as it was"
