"""What a user may say about data: where it is, which images judge, how views are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raysl.config.base import Config
from raysl.data.spec import (
    BlurConfig,
    CropConfig,
    EqualizeConfig,
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
    "EqualizeConfig",
    "EvaluationView",
    "FlipConfig",
    "GrayscaleConfig",
    "JitterConfig",
    "SelectionConfig",
    "ShiftConfig",
    "SolarizeConfig",
    "SubsetConfig",
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


class SubsetConfig(Config):
    """A part of the training images: `{n: 5000}` or `{fraction: 0.1}`.

    Which images it holds depends on their content and on `seed`, never on the order of rows; with one seed a
    smaller subset is part of a larger one. The selection split is taken from the subset.
    """

    n: int | None = Field(default=None, ge=1)
    """How many images."""

    fraction: Fraction | None = Field(default=None, gt=0)
    """Or which share of the training images."""

    seed: int = Field(default=0, ge=0)
    """Another number takes other images."""

    group: Literal["image", "class", "whole"] = "image"
    """What is drawn: `image` each image by itself, `class` the same share of every class, `whole` whole
    groups of `data.group` (as many as fit)."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.n is None) == (self.fraction is None):
            raise ValueError("give n or fraction, one of the two")
        return self


class DataConfig(Config):
    """Which images to train on and how they are stored once decoded."""

    source: str = "digits"
    """`digits` (scikit-learn's, no download), a Parquet file, a folder of Parquet files, or a folder of
    images (`class/image.jpg`, or flat and without labels), or a name of `raysl data list`, which is read from
    where `raysl data prepare` put it: `root`/name. In a folder, sub-folders `train`, `test` and `val`
    and Parquet files with such a word in their names (`digits-train.parquet`) are taken as splits. Any path
    may be a URI: `s3://`, `gs://`, `file://`."""

    root: str = Field(default="data", min_length=1)
    """Folder of the prepared sets that `source` and `test` may name."""

    train_split: Literal["train", "unlabeled", "train+unlabeled"] = "train"
    """Which split of `source` to train on: STL-10 has 100,000 images more that nobody labelled."""

    test: str | None = None
    """Path or URI of the test split where `source` does not hold one. Only `evaluate` reads it."""

    image_column: str = Field(default="image", min_length=1)
    """Parquet column of encoded images: binary, or Hugging Face's struct of `bytes` and `path`."""

    label_column: str | None = Field(default="label", min_length=1)
    """Parquet column of labels (integers or names). Without one, metrics that need labels are off."""

    image_size: int | None = Field(default=None, ge=4, le=4096)
    """Side of the stored square in pixels. Images of another size are resized so that their short side fits,
    then cut to the centre. By default images are stored as they are, which needs all to have one size."""

    channels: Literal[1, 3] | None = None
    """1 stores grey, 3 stores RGB. By default 1 for `digits` and 3 for everything else."""

    stats: Literal["auto"] | None = None
    """`auto` computes `mean` and `std` from the training images even where a recipe gives them. By default
    they are computed where they are not given."""

    mean: tuple[Fraction, ...] | None = None
    """Mean of each channel, on the scale 0-1, to subtract. By default computed from the training images."""

    std: tuple[Positive, ...] | None = None
    """Standard deviation of each channel, on the scale 0-1, to divide by. By default computed likewise."""

    max_bad: float = Field(default=0.01, ge=0, le=1)
    """Share of the images of a split that may be unreadable (cut off, empty, of an unknown format, too
    large): up to it they are left out, counted and listed; beyond it nothing is trained. 0 allows none."""

    subset: SubsetConfig | None = None
    """Train on a part of the images, or null for all."""

    group: str | None = Field(default=None, min_length=1)
    """Parquet column (integers or names) of groups that must not be split between training and selection,
    such as the patient that an image shows."""

    selection: SelectionConfig = SelectionConfig()
    """The held-out part of the training images."""

    feed: Literal["auto", "memory", "ray"] = "auto"
    """`memory`: every image decoded once and kept as uint8. `ray`: images kept encoded and decoded in each
    epoch by processes on CPUs. Both give the same batches. `auto`: `memory` where the decoded images fit in a
    quarter of the node's memory (or in `memory_limit`), else `ray`; the run says which, and why."""

    decode_labels: dict[str, str] | None = None
    """Feed `ray`: decode only on nodes with these labels (`ray start --labels role=cpu`), such as
    `{role: cpu}`."""

    memory_limit: float | None = Field(default=None, gt=0)
    """GiB that the decoded images may take. By default 80 % of the memory that is free."""

    @model_validator(mode="before")
    @classmethod
    def _computed(cls, given: Any) -> Any:
        auto = isinstance(given, dict) and given.get("stats") == "auto"
        return {**given, "mean": None, "std": None} if auto else given

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
