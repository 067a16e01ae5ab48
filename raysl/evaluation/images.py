"""The labelled images of an evaluation: the ones that are learned from, and the ones that are classified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysl.data.decoded import Decoded, Labels, labelled, normalization
from raysl.data.feeds import evaluated_as
from raysl.data.sources import load_split, load_training
from raysl.data.unreadable import describe_unreadable
from raysl.data.views import ViewPipeline
from raysl.errors import InputError
from raysl.train.config import RunConfig


@dataclass(frozen=True)
class Images:
    """The images of an evaluation, shown as the run shows them when nothing is drawn.

    Args:
        split: what is classified, `test` or `selection`.
        train: the labelled images, in parts: all training images for the test split, those the encoder was
            trained on for the selection split.
        test: the images to classify.
        train_y: `(N,)` labels over all parts, 0 .. C-1.
        test_y: `(M,)` labels.
        classes: C.
        views: sizes and normalisation, the ones of training.
        notes: what a reader of the scores should know.
    """

    split: str
    train: dict[str, Decoded]
    test: Decoded
    train_y: Tensor
    test_y: Tensor
    classes: int
    views: ViewPipeline
    notes: tuple[str, ...]

    @property
    def shown(self) -> tuple[int, int, int]:
        """Channels, height and width of what the encoder is shown."""
        one = self.views.plain(torch.from_numpy(self.test.images[:1].copy()))
        return int(one.shape[1]), int(one.shape[2]), int(one.shape[3])

    def facts(self) -> dict[str, Any]:
        """Return sizes as plain values."""
        return {
            "train_side": " + ".join(self.train),
            "train_images": len(self.train_y),
            "test_images": len(self.test),
            "classes": self.classes,
            "stored": [self.test.channels, *self.test.size],
        }


def load_images(config: RunConfig, split: str) -> Images:
    """Decode the images of an evaluation and number their classes.

    The normalisation is that of training: `data.mean` and `data.std`, or computed from the images the encoder
    was trained on.

    Args:
        config: the run's.
        split: what to classify, `test` or `selection`.

    Raises:
        InputError: an unknown split, no such split, or no labels.
    """
    if split not in ("test", "selection"):
        raise InputError(
            f"no split {split!r} to evaluate on; use test, or selection (what training was watched on)"
        )
    data = evaluated_as(config.data, config.views)
    train, selection = load_training(data)
    left_out = {"training": describe_unreadable(train.unreadable, _come(train) + len(selection))}
    views = ViewPipeline(config.views, normalization(data, train), train.size)
    train, selection = (_with_labels(part) for part in (train, selection))
    if split == "selection":
        if len(selection) == 0:
            raise InputError(
                "data.selection.fraction = 0: the run held no images out; evaluate on split test"
            )
        parts, test = {"train": train}, selection
    else:
        parts, test = {"train": train, "selection": selection}, load_split(data, "test")
        left_out["test"] = describe_unreadable(test.unreadable, _come(test))
    if len(test) == 0:
        raise InputError(
            f"{config.data.test or config.data.source}: the test split is empty; give another as data.test="
        )
    if (test.channels, *test.size) != (train.channels, *train.size):
        raise InputError(
            f"test images are {_size(test)} and training images {_size(train)}; give test images of the same "
            "size as data.test=, or train with data.image_size"
        )
    parts = {name: part for name, part in parts.items() if len(part)}
    known = np.concatenate([_labels(part, config) for part in parts.values()])
    wanted = _labels(test, config)
    classes, numbers = np.unique(np.concatenate([known, wanted]), return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"{config.data.source}: all images have one label; accuracy needs two or more")
    train_y, test_y = torch.from_numpy(numbers[: len(known)]), torch.from_numpy(numbers[len(known) :])
    notes = tuple(f"{side} images: {note}" for side, note in left_out.items() if note)
    notes += _notes(parts, test, unseen=int((~np.isin(wanted, known)).sum()))
    return Images(split, parts, test, train_y, test_y, len(classes), views, notes)


def _come(part: Decoded) -> int:
    """Return how many images there are, with those that cannot be read."""
    return len(part) + len(part.unreadable)


def _with_labels(part: Decoded) -> Decoded:
    """Return the images that have a label, where some have none (-1): those cannot judge."""
    there = labelled(part.labels)
    return part if there.all() else part.rows(there)


def _labels(part: Decoded, config: RunConfig) -> Labels:
    if part.labels is None:
        raise InputError(
            f"{config.data.test or config.data.source}: evaluation needs labels, for training images too; "
            "name their column as data.label_column=, or keep each class in a folder of its own"
        )
    return part.labels


def _notes(parts: dict[str, Decoded], test: Decoded, unseen: int) -> tuple[str, ...]:
    notes = []
    twice = int(np.isin(test.ids, np.concatenate([part.ids for part in parts.values()])).sum())
    if twice:
        notes.append(f"{twice} of {len(test)} images to classify are among the labelled ones too")
    if unseen:
        notes.append(f"{unseen} of {len(test)} images to classify are of classes without a labelled image")
    return tuple(notes)


def _size(part: Decoded) -> str:
    return f"{part.size[1]}x{part.size[0]} with {part.channels} channel(s)"
