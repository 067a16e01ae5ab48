"""Data sets in the form their authors publish them in, downloaded and read by torchvision where it can."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from raysl.data.catalog import CATALOG, Entry
from raysl.data.digits import load_digits
from raysl.data.location import Location
from raysl.data.prepare.origins import ArrayOrigin, BinaryOrigin, FileOrigin, Rows, SplitOrigin
from raysl.errors import InputError, RayslError

Splits = dict[str, SplitOrigin]

_CIFAR_FOLDERS = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "cifar20": "cifar-100-python",
}
_STL = "stl10_binary"
_STL_SIDE = 96
_TINY_MARK = Path("val") / "val_annotations.txt"
_VOC_MARK = Path("ImageSets") / "Main"
_PUBLISHED_AS = {"train": "trainval", "test": "test"}


def digits() -> Splits:
    """Return scikit-learn's digits."""
    splits = {}
    for split in ("train", "test"):
        data = load_digits("train" if split == "train" else "test", channels=1)
        origin = ArrayOrigin(data.images[:, 0], split, np.arange(len(data), dtype=np.int64))
        splits[split] = SplitOrigin(origin, data.labels, data.class_names)
    return splits


def download(entry: Entry, place: Path) -> None:
    """Have torchvision download a release, unless it is there already, and unpack it.

    Raises:
        RayslError: it could not be downloaded, or what came is not what was published.
    """
    from torchvision import datasets

    place.mkdir(parents=True, exist_ok=True)
    folder = str(place)
    steps: dict[str, Callable[[], object]] = {
        "cifar10": lambda: datasets.CIFAR10(folder, download=True),
        "cifar100": lambda: datasets.CIFAR100(folder, download=True),
        "cifar20": lambda: datasets.CIFAR100(folder, download=True),
        "stl10": lambda: datasets.STL10(folder, split="test", download=True),
        "imagenette": lambda: datasets.Imagenette(folder, download=True),
        "voc07": lambda: [
            datasets.VOCDetection(folder, year="2007", image_set=part, download=True)
            for part in _PUBLISHED_AS.values()
        ],
    }
    try:
        with contextlib.redirect_stdout(sys.stderr):
            steps[entry.name]()
    except (OSError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise RayslError(
            f"{entry.name} could not be downloaded to {place} ({why}); fetch it yourself and give --from"
        ) from error


def here(place: Location) -> Path:
    """Return the path of a folder on this machine, which is where releases are read as they are published.

    Raises:
        InputError: it is on another one.
    """
    if place.uri:
        raise InputError(f"{place}: a release as it is published is read on this machine only: copy it here")
    return Path(place.path)


def read(entry: Entry, place: Location) -> Splits | None:
    """Return the splits of a release in a folder, or None where its layout is nothing special.

    Raises:
        InputError: the folder does not hold it.
    """
    if entry.release == "cifar":
        return _cifar(entry.name, here(place))
    found = {"stl10": _stl10, "tiny-imagenet": _tiny_imagenet, "voc": _voc}.get(entry.release)
    if found is not None:
        splits = found(here(place))
        if splits is None:
            raise InputError(f"{place} does not hold {entry.title} as it is published; {entry.get}")
        return splits
    return None


def recognised(place: Location) -> Splits | None:
    """Return the splits of a folder that holds a release with a layout of its own, else None.

    Raises:
        InputError: it holds one and is on another machine.
    """
    marks = (*_CIFAR_FOLDERS.values(), _STL, "train_X.bin", str(_TINY_MARK), str(_VOC_MARK))
    if place.uri and not any((place / mark).exists() for mark in marks):
        return None
    path = here(place)
    for name in ("cifar10", "cifar100"):
        if path.name == _CIFAR_FOLDERS[name] or (path / _CIFAR_FOLDERS[name]).is_dir():
            return _cifar(name, path)
    return _stl10(path) or _tiny_imagenet(path) or _voc(path)


def _cifar(name: str, place: Path) -> Splits:
    from torchvision import datasets

    folder = _CIFAR_FOLDERS[name]
    root = place.parent if place.name == folder else place
    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    splits = {}
    for split in ("train", "test"):
        try:
            data = kind(str(root), train=split == "train")
        except RuntimeError:
            raise InputError(
                f"{root} does not hold {folder}/ as it was published (its checksums differ, or a file is "
                f"missing); {CATALOG[name].get}"
            ) from None
        labels, names = np.array(data.targets, np.int64), tuple(data.classes)
        if name == "cifar20":
            labels, names = _coarse(root / folder, split)
        origin = ArrayOrigin(np.ascontiguousarray(data.data), split, np.arange(len(labels), dtype=np.int64))
        splits[split] = SplitOrigin(origin, labels, names)
    return splits


def _coarse(folder: Path, split: str) -> tuple[Rows, tuple[str, ...]]:
    """Return the coarse labels of CIFAR-100, which torchvision leaves out, and their names.

    torchvision has compared the files' checksums just before.
    """
    with open(folder / split, "rb") as file:
        labels = pickle.load(file, encoding="latin1")["coarse_labels"]
    with open(folder / "meta", "rb") as file:
        names = pickle.load(file, encoding="latin1")["coarse_label_names"]
    return np.array(labels, np.int64), tuple(names)


def _stl10(place: Path) -> Splits | None:
    root = place / _STL if (place / _STL).is_dir() else place
    if not (root / "train_X.bin").exists():
        return None
    listed = root / "class_names.txt"
    names = tuple(listed.read_text(encoding="utf-8").split()) if listed.exists() else None
    splits = {}
    for split in ("train", "unlabeled", "test"):
        file = root / f"{split}_X.bin"
        if not file.exists():
            continue
        image = 3 * _STL_SIDE**2
        count, rest = divmod(file.stat().st_size, image)
        labels = np.full(count, -1, np.int64)
        if split != "unlabeled":
            labels = np.fromfile(root / f"{split}_y.bin", np.uint8).astype(np.int64) - 1
        if rest or len(labels) != count:
            raise InputError(f"{file} is not whole: {count} images, {len(labels)} labels; download it again")
        origin = BinaryOrigin(file.absolute(), _STL_SIDE, np.arange(count, dtype=np.int64))
        splits[split] = SplitOrigin(origin, labels, names)
    return splits


def _tiny_imagenet(place: Path) -> Splits | None:
    root = place if (place / _TINY_MARK).exists() else place / "tiny-imagenet-200"
    if not (root / _TINY_MARK).exists():
        return None
    train = sorted(path.relative_to(root).as_posix() for path in root.glob("train/*/images/*.JPEG"))
    of_train = [name.split("/")[1] for name in train]
    rows = [line.split("\t")[:2] for line in (root / _TINY_MARK).read_text(encoding="utf-8").splitlines()]
    rows = sorted(row for row in rows if len(row) == 2)
    names = tuple(sorted({*of_train, *(label for _, label in rows)}))
    if not train or not rows:
        raise InputError(f"{root} holds no train/<class>/images/*.JPEG or no validation labels")
    index = {name: number for number, name in enumerate(names)}
    splits = {}
    for split, files, of in (
        ("train", train, of_train),
        ("val", [f"val/images/{file}" for file, _ in rows], [label for _, label in rows]),
    ):
        labels = np.array([index[label] for label in of], np.int64)
        splits[split] = SplitOrigin(_origin(root, files), labels, names)
    return splits


def _voc(place: Path) -> Splits | None:
    places = (place, place / "VOC2007", place / "VOCdevkit" / "VOC2007")
    root = next((path for path in places if (path / _VOC_MARK).is_dir()), None)
    if root is None:
        return None
    lists = root / _VOC_MARK
    splits = {}
    for split, published in _PUBLISHED_AS.items():
        if not (lists / f"{published}.txt").exists():
            continue
        images = (lists / f"{published}.txt").read_text(encoding="utf-8").split()
        files = {
            path.name.removesuffix(f"_{published}.txt"): path for path in lists.glob(f"*_{published}.txt")
        }
        names = tuple(sorted(files))
        if not names:
            raise InputError(f"{lists} has no class lists such as aeroplane_{published}.txt")
        shows = [_shown(files[name]) for name in names]
        labels = [[number for number, shown in enumerate(shows) if image in shown] for image in images]
        origin = _origin(root, [f"JPEGImages/{image}.jpg" for image in images])
        splits[split] = SplitOrigin(origin, labels, names)
    return splits


def _origin(root: Path, names: Sequence[str]) -> FileOrigin:
    """Return files that a release lists; one that is missing has no size, and is rejected when it is read."""
    files = [root / name for name in names]
    sizes = np.array([file.stat().st_size if file.exists() else 0 for file in files], np.int64)
    return FileOrigin(Location.of(root).absolute(), tuple(names), sizes)


def _shown(file: Path) -> set[str]:
    """Return the images that show a class; where it is difficult to see (0) it does not count."""
    pairs = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {pair[0] for pair in pairs if len(pair) == 2 and pair[1] == "1"}
