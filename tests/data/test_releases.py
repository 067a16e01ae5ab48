"""Data sets as their authors publish them: made small here, in their layout."""

from __future__ import annotations

import functools
import hashlib
import http.server
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysl.data.catalog import CATALOG
from raysl.data.prepare.find import Splits, classes_of_file, find_splits, of_classes
from raysl.data.prepare.pixels import Shape, Treatment, keep
from raysl.data.prepare.releases import digits
from raysl.errors import InputError, RayslError

from .made import Encode, Pixels, WriteFolder, pictures, pixels_of


def pixels_in(splits: Splits, split: str) -> list[Pixels]:
    """Return the (3, H, W) pixels of what would be stored."""
    items = splits[split].images.read()
    return [pixels_of(keep(item, Shape(), Treatment()).encoded) for item in items]


def cifar(root: Path, monkeypatch: pytest.MonkeyPatch, hundred: bool = False) -> list[Pixels]:
    """Write a small CIFAR below `root`, and let torchvision take its checksums for the right ones."""
    from torchvision import datasets

    kind = datasets.CIFAR100 if hundred else datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    images = pictures(60, (32, 32))
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    names = [name for name, _ in kind.train_list + kind.test_list]
    for number, name in enumerate(names):
        part = images[60 * number // len(names) : 60 * (number + 1) // len(names)]
        flat = np.stack([image.transpose(2, 0, 1).reshape(-1) for image in part])
        fine = [n % 7 for n in range(len(part))]
        labels = (
            {"fine_labels": fine, "coarse_labels": [n // 4 for n in fine]} if hundred else {"labels": fine}
        )
        data = pickle.dumps({"data": flat, **labels})
        (folder / name).write_bytes(data)
        kept = lists["test_list" if name.startswith("test") else "train_list"]
        kept.append([name, hashlib.md5(data).hexdigest()])
    words = {"label_names": list("abcdefghij")}
    if hundred:
        words = {"fine_label_names": [f"f{n:02d}" for n in range(100)], "coarse_label_names": ["x", "y"]}
    meta = pickle.dumps(words)
    (folder / kind.meta["filename"]).write_bytes(meta)
    for name, values in lists.items():
        monkeypatch.setattr(kind, name, values)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    return [image.transpose(2, 0, 1) for image in images]


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cifar(tmp_path, monkeypatch)
    for splits in (find_splits("cifar10", place=tmp_path), find_splits(str(tmp_path))):
        assert {split: len(origin) for split, origin in splits.items()} == {"train": 50, "test": 10}
        assert np.array_equal(pixels_in(splits, "train"), images[:50])
        assert np.array_equal(pixels_in(splits, "test"), images[50:])
        assert splits["train"].names == tuple("abcdefghij")
        assert np.array_equal(splits["test"].labels, np.arange(10) % 7)  # type: ignore[arg-type]


def test_cifar20_is_cifar100_with_coarse_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, monkeypatch, hundred=True)
    fine, coarse = (find_splits(name, place=tmp_path)["train"] for name in ("cifar100", "cifar20"))
    assert fine.names is not None
    assert len(fine.names) == 100
    assert coarse.names == ("x", "y")
    assert np.array_equal(np.asarray(fine.labels) // 4, coarse.labels)  # type: ignore[arg-type]


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"\x80")
    with pytest.raises(InputError, match="checksums differ"):
        find_splits("cifar10", place=tmp_path)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve the test's folder on this machine, and return the URL."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def test_torchvision_downloads_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: str
) -> None:
    from torchvision import datasets

    cifar(tmp_path / "made", monkeypatch)
    archive = tmp_path / datasets.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{served}/{archive.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="where is it"):
        find_splits("cifar10")
    splits = find_splits("cifar10", downloads=tmp_path / "downloads")
    assert len(splits["train"]) == 50
    assert (tmp_path / "downloads" / "cifar-10-batches-py").is_dir()
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{served}/gone.tar.gz")
    with pytest.raises(RayslError, match="could not be downloaded"):
        find_splits("cifar10", downloads=tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot download"):
        find_splits("imagenet", downloads=tmp_path)


def test_stl10(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = [image.transpose(2, 0, 1) for image in pictures(9, (96, 96))]
    parts = {"train": images[:3], "unlabeled": images[3:7], "test": images[7:]}
    for split, part in parts.items():
        turned = np.stack(part).transpose(0, 1, 3, 2)  # the release stores columns first
        (folder / f"{split}_X.bin").write_bytes(turned.tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 2]))
    (folder / "test_y.bin").write_bytes(bytes([3, 4]))
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    splits = find_splits("stl10", place=tmp_path)
    for split, part in parts.items():
        assert np.array_equal(pixels_in(splits, split), part)
    assert np.asarray(splits["train"].labels).tolist() == [0, 9, 1]
    assert np.asarray(splits["unlabeled"].labels).tolist() == [-1] * 4
    assert splits["test"].names == tuple("abcdefghij")
    (folder / "train_y.bin").write_bytes(bytes([1, 10]))
    with pytest.raises(InputError, match="not whole"):
        find_splits("stl10", place=tmp_path)


def test_tiny_imagenet(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    images = encoded(9, kind="JPEG")
    files = {f"train/n{n % 3}/images/n{n % 3}_{n}.JPEG": images[n] for n in range(6)}
    files |= {f"val/images/val_{n}.JPEG": images[6 + n] for n in range(2)} | {"test/images/t.JPEG": images[8]}
    root = write_folder(tmp_path / "tiny-imagenet-200", files)
    (root / "val" / "val_annotations.txt").write_text(
        "val_1.JPEG\tn2\t0\t0\t9\t9\nval_0.JPEG\tn1\t0\t0\t9\t9\n"
    )
    for splits in (find_splits("tiny-imagenet", place=tmp_path), find_splits(str(root))):
        assert set(splits) == {"train", "val"}  # the test images have no labels
        assert splits["train"].names == ("n0", "n1", "n2")
        assert np.asarray(splits["train"].labels).tolist() == [0, 0, 1, 1, 2, 2]
        assert np.asarray(splits["val"].labels).tolist() == [1, 2]
        assert [item.encoded for item in splits["val"].images.read()] == images[6:8]


def test_voc_images_have_several_classes(tmp_path: Path, encoded: Encode, write_folder: WriteFolder) -> None:
    images = encoded(4, kind="JPEG")
    base = "VOCdevkit/VOC2007"
    lists = {
        "trainval.txt": "01\n02\n",
        "test.txt": "03\n04\n",
        "cat_trainval.txt": "01  1\n02 -1\n",
        "dog_trainval.txt": "01  1\n02  0\n",
        "cat_test.txt": "03 -1\n04  1\n",
        "dog_test.txt": "03 -1\n04 -1\n",
    }
    files = {f"{base}/JPEGImages/0{n + 1}.jpg": image for n, image in enumerate(images)}
    files |= {f"{base}/ImageSets/Main/{name}": text.encode() for name, text in lists.items()}
    splits = find_splits("voc07", place=write_folder(tmp_path, files))
    assert splits["train"].names == ("cat", "dog")
    assert splits["train"].labels == [[0, 1], []]
    assert splits["test"].labels == [[], [0]]
    assert [item.encoded for item in splits["test"].images.read()] == images[2:]


def test_imagenet100_takes_its_classes_of_imagenet(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder
) -> None:
    names = CATALOG["imagenet100"].class_names() or []
    image = encoded(1)[0]
    others = ["n01440764", "n15075141"]
    files = {f"{split}/{name}/1.JPEG": image for split in ("train", "val") for name in [*names, *others]}
    root = write_folder(tmp_path, files)
    splits = find_splits("imagenet100", place=root)
    for split in ("train", "val"):
        assert splits[split].names == tuple(names)
        assert np.asarray(splits[split].labels).tolist() == list(range(100))
        shown = [item.path.split("/")[1] for item in splits[split].images.read()]
        assert shown == names
    with pytest.raises(InputError, match=r"imagenet50: .* of 50 classes are not in split train"):
        find_splits("imagenet50", place=root)


def test_classes_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("# the best\n7 seven\n3\n\n3 again\n")
    assert classes_of_file(file) == ["3", "7"]
    chosen = of_classes(digits(), classes_of_file(file), "here")
    assert chosen["train"].names == ("3", "7")
    assert set(np.asarray(chosen["test"].labels).tolist()) == {0, 1}
    whole: Any = digits()["train"]
    threes = whole.images.pixels[np.asarray(whole.labels) == 3]
    kept = list(chosen["train"].take(np.flatnonzero(np.asarray(chosen["train"].labels) == 0)).images.read())
    assert np.array_equal(np.stack([item.encoded for item in kept]), threes)
    file.write_text("3\n")
    with pytest.raises(InputError, match="lists 1 classes"):
        classes_of_file(file)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for source, values, told in [
        ("nowhere", {}, "does not exist"),
        ("cifar1", {}, "did you mean 'cifar10'"),
        (str(tmp_path / "notes.txt"), {}, "not a Parquet file"),
        (str(tmp_path), {"place": tmp_path}, "--from and --download are for those"),
        ("stl10", {"place": tmp_path}, "does not hold STL-10"),
        ("voc07", {"place": tmp_path / "no"}, "--from .*no: does not exist"),
    ]:
        with pytest.raises(InputError, match=told) as raised:
            find_splits(source, **values)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)
