"""The features of the trained encoder and of the baselines it is judged beside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysl.data.decoded import Decoded
from raysl.errors import InputError, RayslError
from raysl.evaluation.cache import FeatureCache, data_key
from raysl.evaluation.features import extract, trained_backbone, untrained_backbone, weights_digest
from raysl.evaluation.images import Images
from raysl.evaluation.locate import Located
from raysl.evaluation.request import FeaturesConfig
from raysl.train.checkpoint import list_checkpoints

TRAINED, UNTRAINED, RAW_PIXELS = "trained", "untrained", "raw_pixels"
_MOST_PIXELS = 1 << 30
"""Values of raw pixels that are held at once: 4 GiB in float32."""


@dataclass(frozen=True)
class Encoders:
    """Makes the features of one evaluation, one encoder at a time.

    Args:
        located: the checkpoint.
        images: what to show them.
        config: how to compute.
    """

    located: Located
    images: Images
    config: FeaturesConfig

    @property
    def device(self) -> torch.device:
        """Where features are computed and scored.

        Raises:
            InputError: a GPU was asked for and there is none.
        """
        wanted = self.config.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise InputError("features.device = cuda: this process sees no GPU; use auto or cpu")
        return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")

    def skipped(self) -> dict[str, str]:
        """Return the baselines that are left out, and why."""
        images = self.images
        values = (len(images.train_y) + len(images.test)) * math.prod(images.shown)
        if values <= _MOST_PIXELS:
            return {}
        return {RAW_PIXELS: f"raw pixels are left out: they would take {values * 4 / 2**30:.0f} GiB"}

    def encode(self, encoder: str) -> tuple[Tensor, Tensor]:
        """Return the features of the labelled images and of those to classify, `(N, F)` and `(M, F)`.

        Args:
            encoder: `trained`, `untrained` or `raw_pixels`.

        Raises:
            RayslError: a feature is not finite.
        """
        if encoder == RAW_PIXELS:
            return self._both(lambda _, part: self._extract(nn.Flatten(), part))
        backbone = (
            trained_backbone(self.located) if encoder == TRAINED else untrained_backbone(self.located.config)
        )
        name = self.located.checkpoint.name if encoder == TRAINED else UNTRAINED
        if not self.config.cache:
            return self._both(lambda _, part: self._extract(backbone, part))
        run = self.located.run
        cache = FeatureCache(run.evaluation / "features")
        cache.forget_all_but({UNTRAINED, *(entry.name for entry in list_checkpoints(run.checkpoints))})
        weights = weights_digest(backbone)

        def kept(split: str, part: Decoded) -> Tensor:
            key = {"weights": weights, **data_key(part, self.images.views)}
            return cache.get(f"{name}-{split}", key, lambda: self._extract(backbone, part))

        return self._both(kept)

    def _both(self, features: Callable[[str, Decoded], Tensor]) -> tuple[Tensor, Tensor]:
        train = torch.cat([features(split, part) for split, part in self.images.train.items()])
        test = features(self.images.split, self.images.test)
        for part in (train, test):
            if not torch.isfinite(part).all():
                raise RayslError(
                    f"{self.located.checkpoint}: NaN or infinite features; the encoder has diverged"
                )
        return train.to(self.device), test.to(self.device)

    def _extract(self, backbone: nn.Module, part: Decoded) -> Tensor:
        return extract(
            backbone, part, self.images.views, device=self.device, batch_size=self.config.batch_size
        )
