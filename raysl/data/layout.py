"""Where the files of each split are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raysl.data.config import DataConfig
from raysl.errors import InputError

Split = Literal["train", "selection", "test"]
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
_SPLITS = {"train": ("train",), "test": ("test",), "val": ("val", "validation", "valid")}


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
    """Return the files to train on.

    Raises:
        InputError: nothing usable is there.
    """
    root = _existing(config.source, "data.source")
    if root.is_file():
        return _single(root)
    files = _parquet_by_split(root)
    if files:
        chosen = files.get("train") or files.get("rest")
        if not chosen:
            raise InputError(
                f"{root} holds only test or val Parquet files: name one train*.parquet or give its path"
            )
        return Files(root, tuple(chosen), parquet=True)
    return _image_files(_split_folder(root, "train") or root)


def test_files(config: DataConfig) -> Files:
    """Return the files of the test split: `data.test`, else `test`, else `val` within the source.

    Raises:
        InputError: there is no test split.
    """
    if config.test is not None:
        root = _existing(config.test, "data.test")
        if root.is_file():
            return _single(root)
        files = _parquet_by_split(root)
        if files:
            chosen = files.get("test") or files.get("val") or files.get("rest")
            if chosen:
                return Files(root, tuple(chosen), parquet=True)
            raise InputError(f"data.test: {root} holds only training files: give the path of the test split")
        return _image_files(_split_folder(root, "test") or _split_folder(root, "val") or root)
    root = _existing(config.source, "data.source")
    if root.is_dir():
        files = _parquet_by_split(root)
        for split in ("test", "val"):
            if files.get(split):
                return Files(root, tuple(files[split]), parquet=True)
            folder = _split_folder(root, split)
            if not files and folder is not None:
                return _image_files(folder)
    raise InputError(
        f"{root} has no test split: give its path as data.test, or put test*.parquet or test/ beside it"
    )


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


def _parquet_by_split(root: Path) -> dict[str, list[Path]]:
    """Return the Parquet files under a folder by split; `rest` for names that say nothing."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.parquet")):
        if _visible(path, root):
            folders = path.relative_to(root).parts[:-1]
            by_folder = [
                split for split, names in _SPLITS.items() if any(part.lower() in names for part in folders)
            ]
            by_name = [split for split, names in _SPLITS.items() if path.name.lower().startswith(names)]
            found.setdefault((by_folder or by_name or ["rest"])[0], []).append(path)
    return found


def _split_folder(root: Path, split: str) -> Path | None:
    for name in _SPLITS[split]:
        if (root / name).is_dir():
            return root / name
    return None


def _image_files(root: Path) -> Files:
    paths = tuple(
        p for p in sorted(root.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and _visible(p, root)
    )
    if not paths:
        raise InputError(f"{root} holds no Parquet files and no images ({' '.join(sorted(IMAGE_SUFFIXES))})")
    flat = [path for path in paths if path.parent == root]
    if flat and len(flat) < len(paths):
        raise InputError(
            f"{root} holds images beside folders of images ({flat[0].name}, {paths[-1].relative_to(root)}): "
            "keep either class/image files or images without folders"
        )
    return Files(root, paths, parquet=False)
