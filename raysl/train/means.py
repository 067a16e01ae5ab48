"""Means of the scalars of an epoch's steps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_COUNT = "count of "


class Means:
    """Means over an epoch's steps, kept on the device until asked for; a scalar may come at some steps."""

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self._sums: dict[str, Tensor | float] = dict(sums or {})

    def add(self, scalars: Mapping[str, Tensor | float]) -> None:
        """Add one step's scalars."""
        for name, value in scalars.items():
            total = value.double() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + total
            self._sums[_COUNT + name] = self._sums.get(_COUNT + name, 0.0) + 1.0

    @property
    def sums(self) -> dict[str, float]:
        """Return what a checkpoint in the middle of an epoch keeps: the sums so far and their counts."""
        return {name: float(value) for name, value in self._sums.items()}

    def values(self) -> dict[str, float]:
        """Return the mean of each scalar over the steps that gave it."""
        sums = self.sums
        return {
            name: value / sums[_COUNT + name] for name, value in sums.items() if not name.startswith(_COUNT)
        }
