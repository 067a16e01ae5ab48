"""Features kept on disk between evaluations of one checkpoint.

A file holds the features of one split by one encoder, with the key they belong to and a sum of their bytes.
Features whose key or sum does not fit are computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from raysl.data.decoded import Decoded
from raysl.data.views import ViewPipeline

log = logging.getLogger("raysl")


@dataclass(frozen=True)
class FeatureCache:
    """The cached features of one run.

    Args:
        folder: where they are, one file for each encoder and split.
    """

    folder: Path

    def get(self, name: str, key: Mapping[str, str], compute: Callable[[], Tensor]) -> Tensor:
        """Return cached features, or compute and keep them.

        Args:
            name: of the file: encoder and split.
            key: what the features depend on; kept features with another key are replaced.
            compute: makes the features `(N, F)`.
        """
        file = self.folder / f"{name}.safetensors"
        identity = json.dumps(dict(key), sort_keys=True)
        found = _read(file, identity)
        if found is not None:
            return found
        features = compute()
        _write(file, identity, features)
        return features

    def forget_all_but(self, encoders: set[str]) -> None:
        """Delete the features of encoders that are no longer there, such as deleted checkpoints."""
        for file in self.folder.glob("*.safetensors"):
            if file.name.rsplit("-", 1)[0] not in encoders:
                file.unlink(missing_ok=True)


def data_key(data: Decoded, views: ViewPipeline) -> dict[str, str]:
    """Return what features depend on beside the encoder: the images, and how they are shown."""
    images = hashlib.sha256(data.ids.tobytes() + repr(data.images.shape).encode()).hexdigest()
    shown = {"size": views.config.size, **views.config.evaluation.to_dict()}
    normalization = views.normalization
    return {
        "images": images,
        "view": json.dumps(shown, sort_keys=True),
        "mean": repr(normalization.mean),
        "std": repr(normalization.std),
    }


def _read(file: Path, identity: str) -> Tensor | None:
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("key") != identity:
                return None
            features: Tensor = opened.get_tensor("features")
    except (SafetensorError, OSError) as error:
        log.warning("%s: damaged (%s); the features are computed again", file, error)
        return None
    if metadata.get("sha256") != _sum(features):
        log.warning("%s: damaged (its bytes have changed); the features are computed again", file)
        return None
    return features


def _write(file: Path, identity: str, features: Tensor) -> None:
    """Write aside and rename; a full disk costs the cache, not the evaluation."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"features": features}, aside, {"key": identity, "sha256": _sum(features)})
        aside.replace(file)
    except (SafetensorError, OSError) as error:
        log.warning("%s: features not kept (%s); the next evaluation computes them again", file, error)
        with contextlib.suppress(OSError):
            aside.unlink()


def _sum(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().view(torch.uint8).numpy().data).hexdigest()
