"""A command line to call, and a recipe that takes a second."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raysl.config import yaml
from tests.train.made import config


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


class Commands:
    """Calls `raysl` in this process, with its runs in a folder of the test's own."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.runs, self._capture = folder, folder / "runs", capture
        self.recipe = folder / "small.yaml"
        self.recipe.write_text(yaml.dump(config(method="simclr").to_dict()), encoding="utf-8")

    def __call__(self, *words: str) -> Ended:
        from raysl.cli.main import main

        self._capture.readouterr()
        try:
            code = main([*words, "--runs", str(self.runs)])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Ended(code, *self._capture.readouterr())

    def pretrain(self, *words: str) -> Ended:
        return self("pretrain", str(self.recipe), "--name", "run", *words)

    def contents(self) -> dict[str, bytes]:
        """Return every file of the runs but the locks."""
        return {
            str(file.relative_to(self.runs)): file.read_bytes()
            for file in sorted(self.runs.rglob("*"))
            if file.is_file() and file.name != ".lock"
        }


@pytest.fixture
def raysl(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    # One CPU: on a busy machine two threads wait for each other longer than they compute.
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path, capsys)
