"""What a user may say about data: where it is, which images judge, how views are made."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raysl.config.base import Config
from raysl.data.spec import (
    BlurConfig,
    CropConfig,
    EvaluationView,
    FlipConfig,
    GrayscaleConfig,
    JitterConfig,
    ShiftConfig,
    SolarizeConfig,
    ViewsConfig,
)

__all__ = [
    "BlurConfig",
    "CropConfig",
    "DataConfig",
    "EvaluationView",
    "FlipConfig",
    "GrayscaleConfig",
    "JitterConfig",
    "SelectionConfig",
    "ShiftConfig",
    "SolarizeConfig",
    "ViewsConfig",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class SelectionConfig(Config):
    """The part of the training images that is held out to choose hyperparameters and watch training.

    Which images it holds depends on their content and on `seed`, never on the order of rows.
    """

    fraction: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the training images held out; 0 trains on all of them and turns selection metrics off."""

    maximum: int = Field(default=5000, ge=1)
    """The most images held out, however large the training set."""

    seed: int = Field(default=0, ge=0)
    """Another number holds out other images."""


class DataConfig(Config):
    """Which images to train on and how they are stored once decoded."""

    source: str = "digits"
    """`digits` (scikit-learn's, no download), a Parquet file, a folder of Parquet files, or a folder of
    images (`class/image.jpg`, or flat and without labels). In a folder, sub-folders `train`, `test` and `val`
    and Parquet files with such a word in their names (`digits-train.parquet`) are taken as splits."""

    test: str | None = None
    """Path of the test split where `source` does not hold one. Only `evaluate` reads it."""

    image_column: str = Field(default="image", min_length=1)
    """Parquet column of encoded images: binary, or Hugging Face's struct of `bytes` and `path`."""

    label_column: str | None = Field(default="label", min_length=1)
    """Parquet column of labels (integers or names). Without one, metrics that need labels are off."""

    image_size: int | None = Field(default=None, ge=4, le=4096)
    """Side of the stored square in pixels. Images of another size are resized so that their short side fits,
    then cut to the centre. By default images are stored as they are, which needs all to have one size."""

    channels: Literal[1, 3] | None = None
    """1 stores grey, 3 stores RGB. By default 1 for `digits` and 3 for everything else."""

    mean: tuple[Fraction, ...] | None = None
    """Mean of each channel, on the scale 0-1, to subtract. By default computed from the training images."""

    std: tuple[Positive, ...] | None = None
    """Standard deviation of each channel, on the scale 0-1, to divide by. By default computed likewise."""

    selection: SelectionConfig = SelectionConfig()
    """The held-out part of the training images."""

    feed: Literal["memory"] = "memory"
    """`memory`: every image decoded once and kept as uint8."""

    memory_limit: float | None = Field(default=None, gt=0)
    """GiB that the decoded images may take. By default 80 % of the memory that is free."""

    @model_validator(mode="after")
    def _statistics_fit(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both, or neither to compute them")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, 3):
                raise ValueError(f"{name} needs one value per channel (1 or 3), not {len(values)}")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}: give as many of each"
            )
        return self
