"""The authors' pipelines: torchvision's transforms on one PIL image after the other."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from raysl.data.config import (
    BlurConfig,
    CropConfig,
    FlipConfig,
    GrayscaleConfig,
    JitterConfig,
    SolarizeConfig,
    ViewsConfig,
)
from raysl.data.decoded import Images, Normalization

OnImage = Callable[[Image.Image], Tensor]


def pil_pipeline(config: ViewsConfig, normalization: Normalization, size: int, view: int) -> OnImage:
    """Return a view's transform, in the recipe's order, as the authors of W-MSE and MEC compose theirs."""
    steps: list[object] = [_step(op, size, view) for _, op in config.operations()]
    steps += [transforms.ToTensor(), transforms.Normalize(normalization.mean, normalization.std)]
    composed: OnImage = transforms.Compose(steps)
    return composed


def pil_views(images: Sequence[Image.Image], pipelines: Sequence[OnImage]) -> list[Tensor]:
    """Return each view of a batch, stacked as a DataLoader does."""
    return [torch.stack([pipeline(image) for image in images]) for pipeline in pipelines]


def as_pil(pixels: Images) -> Image.Image:
    """Return a (3, H, W) array as torchvision's CIFAR10 hands an image out."""
    return Image.fromarray(pixels.transpose(1, 2, 0))


def decoded_pil(encoded: bytes) -> Image.Image:
    """Return a file decoded as torchvision's ImageFolder does."""
    with Image.open(io.BytesIO(encoded)) as image:
        return image.convert("RGB")


def _step(op: object, size: int, view: int) -> object:
    def chance(p: float | tuple[float, ...]) -> float:
        return p[view] if isinstance(p, tuple) else p

    match op:
        case CropConfig():
            kind = InterpolationMode(op.interpolation)
            return transforms.RandomResizedCrop(size, op.scale_of(view), op.ratio, kind)
        case FlipConfig():
            return transforms.RandomHorizontalFlip(chance(op.p))
        case JitterConfig():
            jitter = transforms.ColorJitter(op.brightness, op.contrast, op.saturation, op.hue)
            return transforms.RandomApply([jitter], chance(op.p))
        case GrayscaleConfig():
            return transforms.RandomGrayscale(chance(op.p))
        case BlurConfig():
            return transforms.RandomApply([_PilBlur(op.sigma)], chance(op.p))
        case SolarizeConfig():
            return transforms.RandomSolarize(round(255 * op.threshold), chance(op.p))
    raise TypeError(f"the authors' pipelines have no {type(op).__name__}")


class _PilBlur:
    """MoCo v2's blur: PIL's, which approximates a Gaussian by boxes."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self._sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self._sigma)))
