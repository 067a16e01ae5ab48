"""Where the files of each split are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raysl.data.config import DataConfig
from raysl.errors import InputError

Split = Literal["train", "selection", "test"]
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
# A name that says both, as `val-of-train`, is never trained on: the first of these that is named counts.
_SPLITS = {
    "test": ("test", "testing"),
    "val": ("val", "validation", "valid"),
    "train": ("train", "training"),
}
_REST = "rest"
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_ABOUT_SHARDS = re.compile(r"\d*|of")


@dataclass(frozen=True)
class Files:
    """The files of one split, in a fixed order.

    Attributes:
        root: what the user named, for messages; labels of image folders are relative to it.
        paths: the files, sorted.
        parquet: Parquet files, else image files.
    """

    root: Path
    paths: tuple[Path, ...]
    parquet: bool


def train_files(config: DataConfig) -> Files:
    """Return the files to train on: those of the split `train`, else all that belong to no other split.

    Raises:
        InputError: nothing usable is there.
    """
    root = _existing(config.source, "data.source")
    if root.is_file():
        return _single(root)
    files = _chosen(root, ("train", _REST))
    if files is None:
        raise InputError(
            f"{root} holds only test or val files: name one train*.parquet, put images in train/ or give the "
            "path of the training split"
        )
    return files


def test_files(config: DataConfig) -> Files:
    """Return the files of the test split: `data.test`, else `test`, else `val` within the source.

    Of a single file that is named after the training split, the test split is looked for beside it.

    Raises:
        InputError: there is no test split.
    """
    if config.test is not None:
        root = _existing(config.test, "data.test")
        if root.is_file():
            return _single(root)
        files = _chosen(root, ("test", "val", _REST))
        if files is None:
            raise InputError(f"data.test: {root} holds only training files: give the path of the test split")
        return files
    root = _existing(config.source, "data.source")
    files = _beside(root) if root.is_file() else _chosen(root, ("test", "val"))
    if files is None:
        place = ""
        if root.is_dir():
            place = ", or put test*.parquet or test/ into it"
        elif _split_of_file(root.name) == "train":
            place = f", or put {_TRAIN.sub('test', root.name)} beside it"
        raise InputError(f"{root} has no test split: give its path as data.test{place}")
    return files


def _existing(path: str, field: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(
            f"{field}: {path} does not exist: give 'digits', a Parquet file, or a folder of images or "
            "Parquet files"
        )
    return found


def _single(path: Path) -> Files:
    if path.suffix.lower() != ".parquet":
        raise InputError(
            f"{path} is not a Parquet file: give a .parquet file, or a folder of images or Parquet files"
        )
    return Files(path, (path,), parquet=True)


def _visible(path: Path, root: Path) -> bool:
    """Return whether no part of the path below `root` starts with a dot, as leftovers of editors do."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _split_of_folder(name: str) -> str | None:
    return next((split for split, words in _SPLITS.items() if name.lower() in words), None)


def _split_of_file(name: str) -> str | None:
    """Return the split that a word of a Parquet file's name says: `digits-train`, `test_2`, `val-0-of-1`."""
    words = {word.rstrip("0123456789") for word in _words(name)}
    return next((split for split, known in _SPLITS.items() if words.intersection(known)), None)


def _words(name: str) -> list[str]:
    return re.split(r"[-_.]", name.lower())


def _subject(name: str) -> list[str]:
    """Return the words of a file's name that are neither its split nor its place among its parts."""
    return [w for w in _words(name) if not _split_of_file(w) and not _ABOUT_SHARDS.fullmatch(w)]


def _split_place(path: Path, root: Path) -> tuple[str, Path]:
    """Return the split a file belongs to and the outermost folder, or the file itself, that says so.

    Folders are called exactly as the split, as a class may be called `test-tube`; Parquet files, and folders
    of parts that are called as one, have the split's name among the words of theirs.
    """
    parts = path.relative_to(root).parts
    for depth, name in enumerate(parts, 1):
        split = (_split_of_file if name.lower().endswith(".parquet") else _split_of_folder)(name)
        if split is not None:
            return split, root.joinpath(*parts[:depth])
    return _REST, root


def _chosen(root: Path, wanted: tuple[str, ...]) -> Files | None:
    """Return the files of the first of the wanted splits that a folder holds."""
    known = {".parquet", *IMAGE_SUFFIXES}
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in known and _visible(p, root))
    found = [path for path in found if path.is_file()]
    parquet = [path for path in found if path.suffix.lower() == ".parquet"]
    paths = parquet or found
    if not paths:
        raise InputError(f"{root} holds no Parquet files and no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
    places = [(path, *_split_place(path, root)) for path in paths]
    if not parquet and _train_is_a_class(places):
        places = [(path, _REST, root) for path in paths]
    for split in wanted:
        own = [(path, place) for path, of, place in places if of == split]
        if own:
            chosen = tuple(path for path, _ in own)
            if parquet:
                return Files(root, chosen, parquet=True)
            return _image_files(_image_root(root, {place for _, place in own}), chosen)
    return None


def _train_is_a_class(places: list[tuple[Path, str, Path]]) -> bool:
    """Return whether `train` is one class among others, as in CIFAR-100: no other split, no classes in it."""
    return {split for _, split, _ in places} == {"train", _REST} and all(
        path.parent == place for path, split, place in places if split == "train"
    )


def _image_root(root: Path, places: set[Path]) -> Path:
    """Return the folder that holds the class folders, given the split folders that images come from."""
    if len(places) == 1:
        return places.pop()
    beside = sorted(place.name for place in places if place.parent == root)
    if beside:
        raise InputError(f"{root} holds one split in several folders ({beside[0]} is one): keep one")
    return root  # class/train/image


def _image_files(root: Path, paths: tuple[Path, ...]) -> Files:
    flat = [path for path in paths if path.parent == root]
    if flat and len(flat) < len(paths):
        raise InputError(
            f"{root} holds images beside folders of images ({flat[0].name}, {paths[-1].relative_to(root)}): "
            "keep either class/image files or images without folders"
        )
    return Files(root, paths, parquet=False)


def _beside(file: Path) -> Files | None:
    """Return the test split that lies beside a Parquet file which is named after the training split."""
    if _split_of_file(file.name) != "train":
        return None
    files = [
        path
        for path in sorted(file.parent.iterdir())
        if path.is_file() and path.suffix.lower() == ".parquet" and _subject(path.name) == _subject(file.name)
    ]
    for split in ("test", "val"):
        chosen = tuple(path for path in files if _split_of_file(path.name) == split)
        if chosen:
            return Files(file.parent, chosen, parquet=True)
    return None
