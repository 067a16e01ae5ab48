"""From what a user names to the splits to prepare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raysl.data.catalog import CATALOG, nearest_name
from raysl.data.catalog.entries import read_classes
from raysl.data.config import DataConfig
from raysl.data.layout import Files, one_file, splits_of
from raysl.data.location import Location
from raysl.data.prepare import releases
from raysl.data.prepare.origins import FileOrigin, ParquetOrigin, SplitOrigin
from raysl.data.readers import ParquetSource, numbered, open_source
from raysl.errors import InputError

Splits = dict[str, SplitOrigin]


def find_splits(
    source: str,
    *,
    place: str | Path | None = None,
    downloads: Path | None = None,
    image_column: str = "image",
    label_column: str = "label",
) -> Splits:
    """Return the splits of a source.

    Args:
        source: a path or URI, or a name of the catalog.
        place: folder or URI that holds the release, of a source that is a name.
        downloads: folder to download the release to, if it may be downloaded.
        image_column: Parquet column of images.
        label_column: Parquet column of labels.

    Raises:
        InputError: nothing usable is there; the message says what to do.
    """
    entry = CATALOG.get(source)
    if entry is None:
        if place is not None or downloads is not None:
            raise InputError(
                f"{source} is no name of raysl data list{nearest_name(source)}; "
                "--from and --download are for those"
            )
        return _of_path(Location.of(source), image_column, label_column)
    if entry.release == "digits":
        return releases.digits()
    if downloads is not None:
        if not entry.download:
            raise InputError(f"{source}: torchvision cannot download it; {entry.get}")
        place = downloads if place is None else place
        releases.download(entry, releases.here(Location.of(place)))
    if place is None:
        raise InputError(f"{source}: where is it? {entry.get}")
    folder = Location.of(place)
    if not folder.exists():
        raise InputError(f"--from {folder}: does not exist; {entry.get}")
    splits = releases.read(entry, folder)
    if splits is None:
        splits = _of_path(folder, image_column, label_column)
    classes = entry.class_names()
    return splits if classes is None else of_classes(splits, classes, source)


def _of_path(path: Location, image_column: str, label_column: str) -> Splits:
    if not path.exists():
        raise InputError(
            f"{path} does not exist: give a Parquet file, a folder of images or Parquet files, or a name of "
            f"raysl data list{nearest_name(path.path)}"
        )
    path = path.absolute()
    known = releases.recognised(path)
    if known is not None:
        return known
    files = {"train": one_file(path)} if path.is_file() else splits_of(path)
    config = DataConfig(
        source=str(path),
        image_column=image_column,
        label_column=label_column,
        train_split="train+unlabeled",  # where some images have no label
    )
    splits: Splits = {}
    names: tuple[str, ...] = ()
    for split, found in files.items():
        splits[split] = _split(path, found, config, names)
        names = splits[split].names or names
    return splits


def _split(root: Location, files: Files, config: DataConfig, known: tuple[str, ...]) -> SplitOrigin:
    """Return the origin of some files; `known` class names keep their numbers."""
    source = open_source(files, config)
    column = source.labels()
    labels, names = numbered(column, known)
    if not isinstance(source, ParquetSource):
        paths = tuple(path.below(root) for path in files.paths)
        sizes = np.array([path.size or 0 for path in files.paths], np.int64)
        return SplitOrigin(FileOrigin(root, paths, sizes), labels, names)
    counts = tuple(metadata.num_rows for metadata in source.metadata())
    leave = () if config.label_column is None else (config.label_column,)
    rows = np.arange(sum(counts), dtype=np.int64)
    return SplitOrigin(
        ParquetOrigin(root, files.paths, counts, config.image_column, leave, rows), labels, names
    )


def of_classes(splits: Splits, wanted: Sequence[str], what: str) -> Splits:
    """Return the images of some classes, which are numbered in the order of their names.

    A class is meant by its whole name or the first word of it, as in `n01440764 tench`.

    Raises:
        InputError: a split has no such class, or no class names.
    """
    chosen, index = {}, {name: number for number, name in enumerate(sorted(wanted))}
    for split, origin in splits.items():
        if origin.names is None or not isinstance(origin.labels, np.ndarray):
            raise InputError(f"{what}: split {split} has no class names to choose from")
        there = {name for full in origin.names for name in (full, _first_word(full))}
        missing = [name for name in index if name not in there]
        if missing:
            raise InputError(
                f"{what}: {len(missing)} of {len(index)} classes are not in split {split} (such as "
                f"{missing[0]}; it has {', '.join(origin.names[:3])}, ...)"
            )
        new = np.array([index.get(n, index.get(_first_word(n), -1)) for n in origin.names], np.int64)
        labels = np.where(origin.labels >= 0, new[origin.labels], -1)
        rows = np.flatnonzero(labels >= 0)
        part = origin.take(rows)
        chosen[split] = SplitOrigin(part.images, labels[rows], tuple(index))
    return chosen


def _first_word(name: str) -> str:
    return (name.split() or [""])[0]


def classes_of_file(path: Path) -> list[str]:
    """Return the class names that a file lists.

    Raises:
        InputError: it cannot be read, or lists fewer than two.
    """
    try:
        names = read_classes(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--classes {path}: not read ({error}); give a text file, one class a line"
        ) from None
    if len(names) < 2:
        raise InputError(f"--classes {path}: lists {len(names)} classes; give two or more, one a line")
    return names
