"""Features of an encoder: the trained one, the same one untrained, or none at all (the pixels)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from raysl.data.decoded import Decoded
from raysl.data.memory import plain
from raysl.data.views import ViewPipeline
from raysl.evaluation.locate import Located, locate
from raysl.models.backbones import Backbone, build_backbone
from raysl.train.config import RunConfig

_PREFIX = "backbone."


def load_backbone(run: str | Path, checkpoint: str | Path = "last") -> Backbone:
    """Load the encoder that a run trained: the student's backbone, without heads or teacher.

    Args:
        run: a run directory, or a checkpoint directory within one.
        checkpoint: `last`, `best`, a checkpoint's name or its path.

    Returns:
        A plain module from normalised images `(N, C, H, W)` to features `(N, F)`, in float32 on the CPU, in
        evaluation mode, with its gradients on.

    Raises:
        InputError: no such run or checkpoint, or it is damaged.
    """
    return trained_backbone(locate(run, checkpoint))


def trained_backbone(located: Located) -> Backbone:
    """Load the student's backbone of a checkpoint that has been found."""
    backbone = _build(located.config)
    with safe_open(located.weights, framework="pt") as file:
        names = [name for name in list(file.keys()) if name.startswith(_PREFIX)]
        state = {name.removeprefix(_PREFIX): file.get_tensor(name) for name in names}
    backbone.load_state_dict(state)
    return backbone.eval()


def untrained_backbone(config: RunConfig) -> Backbone:
    """Return the encoder as a run found it before its first step, with the run's own initial weights.

    It is in evaluation mode; its batch normalisation has the statistics it begins with: mean 0, variance 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return _build(config).eval()


def image_channels(config: RunConfig) -> int:
    """Return the channels of the images a run's encoder takes; `data.channels` says the same."""
    return config.data.channels or (1 if config.data.source == "digits" else 3)


def _build(config: RunConfig) -> Backbone:
    return build_backbone(config.backbone, image_channels=image_channels(config))


@torch.no_grad()
def extract(
    backbone: nn.Module,
    data: Decoded,
    views: ViewPipeline,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 512,
) -> Tensor:
    """Return the features of un-augmented images.

    Args:
        backbone: maps images `(N, C, H, W)` to `(N, F)`; put on `device`, and in evaluation mode meanwhile.
            `nn.Flatten()` gives raw pixels.
        data: N images.
        views: sizes and normalisation; nothing is drawn.
        device: where to compute.
        batch_size: images at once; does not change the result beyond rounding.

    Returns:
        `(N, F)` float32 on the CPU, in the order of rows.
    """
    training = backbone.training
    backbone.to(device).eval()
    features = torch.empty(0, 0)
    try:
        done = 0
        for images in plain(data, views, batch_size=batch_size, device=device):
            part = backbone(images)
            if done == 0:
                features = torch.empty(len(data), part.shape[1])
            features[done : done + len(part)] = part
            done += len(part)
    finally:
        backbone.train(training)
    return features


def weights_digest(module: nn.Module) -> str:
    """Return a sha256 of a module's parameters and buffers, names and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
