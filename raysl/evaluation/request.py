"""What the user asked for: the protocol's options, how features are computed, and which labelled images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from raysl.config import Config, build, difference, leaves, merge
from raysl.errors import InputError
from raysl.evaluation.protocols import Protocol, find_protocol
from raysl.evaluation.protocols.base import Options
from raysl.train.config import RunConfig

_OF_THE_RUN = ("data.", "views.evaluation.")
_KEPT = ("data.selection.", "data.feed")
"""What decides which images the encoder was trained on stays as it was."""


class FeaturesConfig(Config):
    """How features are computed. Nothing here changes them beyond rounding."""

    batch_size: int = Field(512, ge=1)
    """Images at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU when the process sees one."""

    cache: bool = True
    """Keep the features in the run directory for the next evaluation of the same checkpoint."""


class _Settings(Config):
    """What every protocol takes beside its options."""

    features: FeaturesConfig = FeaturesConfig()
    """How features are computed."""


@dataclass(frozen=True)
class Request:
    """An evaluation as it was asked for.

    Args:
        protocol: how features are scored.
        options: the protocol's options.
        features: how features are computed.
        config: the run's config, with what the user changed about the labelled images.
        changes: what that is, `key: old -> new` each.
    """

    protocol: Protocol
    options: Options
    features: FeaturesConfig
    config: RunConfig
    changes: tuple[str, ...]

    @property
    def label(self) -> str:
        """The protocol and the options that are not its defaults: `knn`, `knn-k20-metric_cosine`."""
        defaults = self.protocol.options().to_dict()
        given = self.options.to_dict()
        parts = [_part(name, value) for name, value in given.items() if value != defaults[name]]
        return "-".join([self.protocol.name, *parts])

    @property
    def images_label(self) -> str:
        """Empty for the run's own images, else a short digest of what the user changed about them."""
        if not self.changes:
            return ""
        return "images_" + hashlib.sha256(json.dumps(self.changes).encode()).hexdigest()[:8]

    def notes(self, trained: RunConfig) -> list[str]:
        """Return what a reader of the scores should know about what was changed since training."""
        data = self.config.data
        if data.source == trained.data.source or data.mean is not None:
            return []
        return [f"images are normalised by the statistics of {data.source}, not of {trained.data.source}"]


def read_request(protocol: str, overrides: Sequence[str], config: RunConfig) -> Request:
    """Tell the three kinds of overrides apart: `k=20`, `features.device=cpu`, `data.test=PATH`.

    Args:
        protocol: its name.
        overrides: `key=value` each.
        config: the run's config.

    Raises:
        InputError: an unknown protocol, option or value, or a key that would change how the run was trained.
    """
    found = find_protocol(protocol)
    given, origins = merge([], overrides)
    settings = {name: given.pop(name) for name in _Settings.model_fields if name in given}
    features = build(_Settings, settings, origins).features
    of_run: dict[str, Any] = {room: given.pop(room) for room in ("data", "views") if room in given}
    for key, _ in leaves(of_run):
        if not key.startswith(_OF_THE_RUN) or key.startswith(_KEPT):
            raise InputError(
                f"override {key}: evaluation takes data.* (without data.selection), views.evaluation.*, "
                f"features.* and the options of {protocol}: {', '.join(found.options.model_fields)}"
            )
    options = build(found.options, given, origins)
    changed = build(RunConfig, merge([config.to_dict(), of_run])[0], origins) if of_run else config
    return Request(found, options, features, changed, tuple(_differences(config, changed)))


def _differences(before: RunConfig, after: RunConfig) -> list[str]:
    """Return what was changed, without what only bounds memory."""
    ignored = {"memory_limit": None}
    old, new = ({**config.to_dict()["data"], **ignored} for config in (before, after))
    views = [config.to_dict()["views"]["evaluation"] for config in (before, after)]
    return difference({"data": old, "views": views[0]}, {"data": new, "views": views[1]})


def _part(name: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{name}{value:g}"
    return f"{name}_{'null' if value is None else value}"
