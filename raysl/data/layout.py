"""Where the files of each split are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from raysl.data.catalog import CATALOG, nearest_name
from raysl.data.config import DataConfig
from raysl.data.location import Location
from raysl.errors import InputError

Split = Literal["train", "selection", "test"]
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
# A name that says both, as `val-of-train`, is never trained on: the first of these that is named counts.
_SPLITS = {
    "test": ("test", "testing"),
    "val": ("val", "validation", "valid"),
    "unlabeled": ("unlabeled", "unlabelled"),
    "train": ("train", "training"),
}
_REST = "rest"
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
# What `raysl data prepare` leaves in its folder: until it is done, and for good.
UNFINISHED = ".prepare"
MANIFEST = "manifest.json"
REJECTED = "rejected.parquet"
_ABOUT_SHARDS = re.compile(r"\d*|of")


@dataclass(frozen=True)
class Files:
    """The files of one split, in a fixed order.

    Attributes:
        root: what the user named, for messages; labels of image folders are relative to it.
        paths: the files, sorted.
        parquet: Parquet files, else image files.
    """

    root: Location
    paths: tuple[Location, ...]
    parquet: bool


def train_files(config: DataConfig) -> Files:
    """Return the files of `data.train_split`; where no file is called `train`, all that are of no split.

    Raises:
        InputError: nothing usable is there.
    """
    root = _existing(config.source, "data.source", config.root)
    if config.train_split != "train":
        return _named_splits(root, config.train_split)
    if root.is_file():
        return one_file(root)
    files = _chosen(root, ("train", _REST))
    if files is None:
        raise InputError(
            f"{root} holds only test or val (or unlabeled) files: name one train*.parquet, put images in "
            "train/, give the path of the training split, or set data.train_split"
        )
    return files


def _named_splits(root: Location, names: str) -> Files:
    """Return the files of one split, or of several joined by `+`."""
    found = {} if root.is_file() else splits_of(root)
    parts = [found[name] for name in names.split("+") if name in found]
    if len(parts) < len(names.split("+")):
        there = ", ".join(found) or "one file"
        raise InputError(f"data.train_split = {names}: {root} has no such split (it has {there})")
    if len(parts) == 1:
        return parts[0]
    if not parts[0].parquet:
        raise InputError(
            f"data.train_split = {names}: {root} holds image files; make Parquet of them with "
            "raysl data prepare"
        )
    return Files(root, tuple(path for part in parts for path in part.paths), parquet=True)


def splits_of(root: Location) -> dict[str, Files]:
    """Return the files of each split that a folder holds; what belongs to none is `train` if that is missing.

    Raises:
        InputError: the folder holds nothing usable.
    """
    found = _look(root)
    splits = {split: found.of(split) for split in ("train", "unlabeled", "val", "test")}
    splits["train"] = splits["train"] or found.of(_REST)
    return {split: files for split, files in splits.items() if files is not None}


def test_files(config: DataConfig) -> Files:
    """Return the files of the test split: `data.test`, else `test`, else `val` within the source.

    Of a single file that is named after the training split, the test split is looked for beside it.

    Raises:
        InputError: there is no test split.
    """
    if config.test is not None:
        root = _existing(config.test, "data.test", config.root)
        if root.is_file():
            return one_file(root)
        files = _chosen(root, ("test", "val", _REST))
        if files is None:
            raise InputError(f"data.test: {root} holds only training files: give the path of the test split")
        return files
    root = _existing(config.source, "data.source", config.root)
    files = _beside(root) if root.is_file() else _chosen(root, ("test", "val"))
    if files is None:
        place = ""
        if not root.is_file():
            place = ", or put test*.parquet or test/ into it"
        elif _split_of_file(root.name) == "train":
            place = f", or put {_TRAIN.sub('test', root.name)} beside it"
        raise InputError(f"{root} has no test split: give its path as data.test{place}")
    return files


def _existing(path: str, field: str, prepared: str) -> Location:
    """Return the place of a source: a path or URI, or the name of a set that lies prepared in a folder."""
    found = Location.of(path)
    if not found.exists() and path in CATALOG:
        found = Location.of(prepared) / path
        if not found.exists():
            raise InputError(
                f"{field}: {path} is not in {prepared}/ yet: raysl data prepare {path} {found} "
                f"{CATALOG[path].options()}"
            )
    if not found.exists():
        raise InputError(
            f"{field}: {found} does not exist: give 'digits', a Parquet file, a folder of images or "
            f"Parquet files, or a name of raysl data list{nearest_name(path)}"
        )
    if (found / UNFINISHED).exists():
        raise InputError(f"{field}: {found} is not prepared to the end: run its raysl data prepare again")
    return found


def one_file(path: Location) -> Files:
    """Return a Parquet file as all there is.

    Raises:
        InputError: it is none.
    """
    if path.suffix != ".parquet":
        raise InputError(
            f"{path} is not a Parquet file: give a .parquet file, or a folder of images or Parquet files"
        )
    return Files(path, (path.sized(),), parquet=True)


def _visible(path: Location, root: Location) -> bool:
    """Return whether a file is meant to be read.

    Leftovers, whose path has a part that starts with a dot, and the list of rejected images are not.
    """
    if path.name == REJECTED and (path.parent / MANIFEST).exists():
        return False
    return not any(part.startswith(".") for part in path.below(root).split("/"))


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


def _split_place(path: Location, root: Location) -> tuple[str, Location]:
    """Return the split a file belongs to and the outermost folder, or the file itself, that says so.

    Folders are called exactly as the split, as a class may be called `test-tube`; Parquet files, and folders
    of parts that are called as one, have the split's name among the words of theirs.
    """
    parts = path.below(root).split("/")
    for depth, name in enumerate(parts, 1):
        split = (_split_of_file if name.lower().endswith(".parquet") else _split_of_folder)(name)
        if split is not None:
            return split, root / "/".join(parts[:depth])
    return _REST, root


@dataclass(frozen=True)
class _Found:
    """All files of a folder: each with its split, and the folder or file that says so."""

    root: Location
    places: list[tuple[Location, str, Location]]
    parquet: bool

    def of(self, split: str) -> Files | None:
        """Return the files of a split; None if there are none."""
        own = [(path, place) for path, named, place in self.places if named == split]
        chosen = tuple(path for path, _ in own)
        if self.parquet or not own:
            return Files(self.root, chosen, parquet=True) if own else None
        return _image_files(_image_root(self.root, {place for _, place in own}), chosen)


def _look(root: Location) -> _Found:
    known = {".parquet", *IMAGE_SUFFIXES}
    found = [path for path in root.files() if path.suffix in known and _visible(path, root)]
    parquet = [path for path in found if path.suffix == ".parquet"]
    paths = parquet or found
    if not paths:
        raise InputError(f"{root} holds no Parquet files and no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
    places = [(path, *_split_place(path, root)) for path in paths]
    if not {split for _, split, _ in places} & {"train", "val", "test"}:
        # Without another split beside it, it is one class among others.
        places = [(path, _REST, root) for path in paths]
    if not parquet and _train_is_a_class(places):
        places = [(path, _REST, root) for path in paths]
    return _Found(root, places, bool(parquet))


def _chosen(root: Location, wanted: tuple[str, ...]) -> Files | None:
    """Return the files of the first of the wanted splits that a folder holds."""
    found = _look(root)
    return next((files for split in wanted if (files := found.of(split)) is not None), None)


def _train_is_a_class(places: list[tuple[Location, str, Location]]) -> bool:
    """Return whether `train` is one class among others, as in CIFAR-100: no other split, no classes in it."""
    return {split for _, split, _ in places} == {"train", _REST} and all(
        path.parent == place for path, split, place in places if split == "train"
    )


def _image_root(root: Location, places: set[Location]) -> Location:
    """Return the folder that holds the class folders, given the split folders that images come from."""
    if len(places) == 1:
        return places.pop()
    beside = sorted(place.name for place in places if place.parent == root)
    if beside:
        raise InputError(f"{root} holds one split in several folders ({beside[0]} is one): keep one")
    return root  # class/train/image


def _image_files(root: Location, paths: tuple[Location, ...]) -> Files:
    flat = [path for path in paths if path.parent == root]
    if flat and len(flat) < len(paths):
        raise InputError(
            f"{root} holds images beside folders of images ({flat[0].name}, {paths[-1].below(root)}): "
            "keep either class/image files or images without folders"
        )
    return Files(root, paths, parquet=False)


def _beside(file: Location) -> Files | None:
    """Return the test split that lies beside a Parquet file which is named after the training split."""
    if _split_of_file(file.name) != "train":
        return None
    files = [
        path
        for path in file.parent.files(recursive=False)
        if path.suffix == ".parquet" and _subject(path.name) == _subject(file.name)
    ]
    for split in ("test", "val"):
        chosen = tuple(path for path in files if _split_of_file(path.name) == split)
        if chosen:
            return Files(file.parent, chosen, parquet=True)
    return None
