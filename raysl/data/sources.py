"""From a source the user names to decoded splits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysl.data.config import DataConfig
from raysl.data.decode import Decoder
from raysl.data.decoded import Decoded
from raysl.data.digits import load_digits
from raysl.data.layout import Files, Split, test_files, train_files
from raysl.data.readers import FolderSource, ParquetSource, content_ids, numbered, open_source
from raysl.data.splits import Codes, Mask, describe_groups, in_selection, in_subset, subset_size
from raysl.errors import InputError

Rows = NDArray[np.int64]
DIGITS = "digits"
_ROWS = 1024


def load_split(config: DataConfig, split: Split) -> Decoded:
    """Decode one split: `train` without the held-out images, `selection` those alone, or `test`.

    Raises:
        InputError: the source is missing, empty, unreadable or without such a split; the message says what to
            do.
    """
    if split == "test":
        return _load_test(config)
    train, selection = load_training(config)
    return train if split == "train" else selection


def load_training(config: DataConfig) -> tuple[Decoded, Decoded]:
    """Decode the training images once and return (train, selection): exact complements, no image in both.

    Raises:
        InputError: the source is missing, empty or unreadable; the message says what to do.
    """
    whole, groups = _used(config)
    held = in_selection(whole.ids, config.selection, groups)
    if groups is not None and config.group is not None:
        notes = (*whole.notes, describe_groups(config.group, groups, held))
        whole = replace(whole, notes=notes)
    return _split_off(whole, held)


def _used(config: DataConfig) -> tuple[Decoded, Codes | None]:
    """Decode the training images that `data.subset` leaves, and return them with their groups' numbers."""
    if config.source == DIGITS:
        if config.group is not None:
            raise InputError("data.group: digits have no columns to group by; remove the key")
        whole = load_digits("train", stored_channels(config))
        rows = None if config.subset is None else in_subset(whole.ids, config.subset, whole.labels)
        return whole if rows is None else _noted(whole.rows(rows), len(whole)), None
    files = train_files(config)
    source = open_source(files, config)
    groups = None if config.group is None else source.groups(config.group)
    if config.subset is None:
        data, read = _read(source, config)
    else:
        labels, _ = numbered(source.labels(), ())
        rows = in_subset(content_ids(source), config.subset, labels, groups)
        data, read = _read(source, config, rows=rows)
        data = _noted(data, source.count)
    return data, None if groups is None else groups[read]


def _noted(data: Decoded, whole: int) -> Decoded:
    drawn = len(data) + len(data.unreadable)
    return replace(data, notes=(f"data.subset: {drawn} of {whole} training images", *data.notes))


def count_training(config: DataConfig) -> int:
    """Return how many images there are to train on, the held-out ones left out, without decoding any.

    Groups and equal images, which stay together, can make it some fewer or more, and unreadable images, which
    are not known yet, fewer.

    Raises:
        InputError: the source is missing, empty or unreadable.
    """
    if config.source == DIGITS:
        whole = len(load_digits("train", stored_channels(config)))
    else:
        whole = open_source(train_files(config), config).count
    whole = subset_size(config.subset, whole)
    return whole - min(round(config.selection.fraction * whole), config.selection.maximum)


def _load_test(config: DataConfig) -> Decoded:
    if config.source == DIGITS and config.test is None:
        return load_digits("test", stored_channels(config))
    files = test_files(config)
    known = () if config.source == DIGITS else _label_names(train_files(config), config)
    return _read(open_source(files, config), config, known)[0]


def stored_channels(config: DataConfig) -> int:
    """Return the channels images are stored with: 1 or 3."""
    if config.channels is not None:
        return config.channels
    return 1 if config.source == DIGITS else 3


def _split_off(whole: Decoded, held_out: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Decoded, Decoded]:
    """Return (rest, held out), moving the rest within the array of `whole`, which must not be used again.

    A second copy of the training images would double the peak of memory.
    """
    selection = whole.rows(held_out)
    kept = np.flatnonzero(~held_out)
    for start in range(0, len(kept), _ROWS):
        rows = kept[start : start + _ROWS]
        whole.images[start : start + len(rows)] = whole.images[rows]
    labels = None if whole.labels is None else whole.labels[kept]
    train = replace(whole, images=whole.images[: len(kept)], labels=labels, ids=whole.ids[kept])
    return train, replace(selection, notes=(), unreadable=())


def _read(
    source: ParquetSource | FolderSource,
    config: DataConfig,
    known: tuple[str, ...] = (),
    rows: Mask | None = None,
) -> tuple[Decoded, Rows]:
    """Decode a source; return what can be read of it, and (N,) its rows.

    Args:
        source: the files of a split.
        config: how images are stored.
        known: class names of the training split, which keep their numbers.
        rows: (N,) the images to take; all if None.
    """
    wanted = np.ones(source.count, np.bool_) if rows is None else rows
    decoder = Decoder(config, stored_channels(config), int(wanted.sum()))
    first = 0
    for records in source.batches():
        chosen = wanted[first : first + len(records)]
        first += len(records)
        decoder.add([record for record, take in zip(records, chosen, strict=True) if take])
    images, ids, readable = decoder.finish()
    read = np.flatnonzero(wanted)[readable]
    column = source.labels()
    labels, names = numbered(column, known)
    notes = tuple(note for note in (column.note, *decoder.notes) if note)
    labels = None if labels is None else labels[read]
    return Decoded(images, labels, ids, names, notes, tuple(decoder.unreadable)), read


def _label_names(files: Files, config: DataConfig) -> tuple[str, ...]:
    """Return the names of the classes of `files` where labels are words, without reading an image."""
    source = open_source(files, config)
    return tuple(sorted(set(source.labels().words or ())))
