"""How a stored image is shown when nothing is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from raysl.data.config import ViewsConfig
from raysl.data.resample import resized_crop
from raysl.errors import InputError


@dataclass(frozen=True)
class Shown:
    """Shows stored images when nothing is drawn: resized, then the centre.

    Attributes:
        stored: (height, width) of the images.
        resized: size they are resized to.
        cut: size of the centre.
        interpolation: filter that resizes.
    """

    stored: tuple[int, int]
    resized: tuple[int, int]
    cut: tuple[int, int]
    interpolation: str

    @classmethod
    def of(cls, config: ViewsConfig, size: int | None, crop: int | None, stored: tuple[int, int]) -> Shown:
        """Resolve the evaluation's sizes beside a view's.

        Args:
            config: its `evaluation`.
            size: side of the view; None is that of the stored images.
            crop: side of the centre; None is that of the view.
            stored: (height, width) of the images.

        Raises:
            InputError: the centre is larger than what it is cut from.
        """
        crop = crop or size
        short = config.evaluation.resize or crop
        if short is not None and crop is not None and short < crop:
            raise InputError(
                f"views.evaluation: cannot cut {crop} pixels from a short side of {short}: set resize >= crop"
            )
        if short is None:
            resized = stored
        else:
            side = min(stored)
            resized = (max(short, short * stored[0] // side), max(short, short * stored[1] // side))
        cut = resized if crop is None else (crop, crop)
        if cut[0] > resized[0] or cut[1] > resized[1]:
            raise InputError(
                f"views.evaluation.crop is {crop}, more than the image's short side: "
                "set views.evaluation.resize"
            )
        return cls(stored, resized, cut, config.evaluation.interpolation)

    def __call__(self, x: Tensor) -> Tensor:
        """Return float images as they are shown."""
        if self.resized != self.stored:
            whole = np.tile(np.array([0, 0, *self.stored], np.int64), (len(x), 1))
            x = resized_crop(x, whole, self.resized, self.interpolation)
        (height, width), (tall, wide) = self.resized, self.cut
        top, left = round((height - tall) / 2), round((width - wide) / 2)
        return x[:, :, top : top + tall, left : left + wide]
