"""raysl: hyperparameter search and scaling for self-supervised image pretraining, on Ray.

`pretrain`, `sweep`, `evaluate` and `load_backbone` are the functions of most scripts; `raysl.api` has one for
every command. They are imported on first use, so `import raysl` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysl.api import evaluate, load_backbone, pretrain, sweep

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load_backbone", "pretrain", "sweep"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from raysl import api

        return getattr(api, name)
    raise AttributeError(f"module 'raysl' has no attribute {name!r}")
