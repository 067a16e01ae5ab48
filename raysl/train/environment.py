"""On what a run was made: versions, hardware, revision, command line."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "raysl",
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "numpy",
    "pyarrow",
    "safetensors",
    "scikit-learn",
)


def describe_environment() -> dict[str, Any]:
    """Return the facts that go into `environment.json`."""
    import torch

    return {
        "time": time.time(),
        "command": sys.argv,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "git": _git_revision(Path.cwd()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision(folder: Path) -> str | None:
    """Return the revision of the user's working tree, with `+changes` when it has any; None outside git."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=40", "--exclude=*"],
            cwd=folder, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
