"""Evaluation protocols on frozen features, one file each, found by file name.

`linear_cached.py` is the protocol `linear-cached`. A protocol's file holds `Options` (its fields),
`measure(train_x, train_y, test_x, test_y, options) -> Measured`, and `COMPARES`: whether its scores mean
little without those of the baselines, which then are always judged too.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raysl.config import nearest
from raysl.errors import InputError
from raysl.evaluation.protocols.base import Measured, Options

_SUPPORT = {"base"}


@dataclass(frozen=True)
class Protocol:
    """One way to score features.

    Args:
        name: as users write it.
        options: its config class.
        measure: scores test features `(M, F)` with labels `(M,)`, given training features `(N, F)` with
            labels `(N,)`. Labels are 0 .. C-1.
        compares: whether the baselines are always judged too.
    """

    name: str
    options: type[Options]
    measure: Callable[[Tensor, Tensor, Tensor, Tensor, Any], Measured]
    compares: bool


def protocol_names() -> list[str]:
    """Return the name of every protocol, sorted."""
    found = {module.name for module in pkgutil.iter_modules(__path__)} - _SUPPORT
    return sorted(name.replace("_", "-") for name in found)


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        InputError: no protocol of that name; the message gives the nearest one.
    """
    known = protocol_names()
    if name not in known:
        raise InputError(f"no evaluation protocol {name!r}; {nearest(name, known)}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return Protocol(name, module.Options, module.measure, module.COMPARES)
