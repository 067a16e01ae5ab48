"""The entries of the catalog.

Numbers are those of the releases. Mean and standard deviation are the customary ones of the training images
(the scale is 0-1); raysl computes its own unless `data.mean` and `data.std` are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal

Release = Literal["digits", "cifar", "stl10", "tiny-imagenet", "folder", "imagenette", "voc"]
Triple = tuple[float, ...]


@dataclass(frozen=True)
class Entry:
    """A data set.

    Attributes:
        name: what to write as `data.source`, or as the source of `raysl data prepare`.
        title: its full name.
        splits: images of each split; None where nobody has counted them.
        classes: number of classes.
        size: of its images, to be read before `pixels`.
        mean: customary mean of each channel, scale 0-1, or None.
        std: customary standard deviation of each channel, or None.
        licence: what is known of its terms; not legal advice.
        get: how to come by it.
        release: the layout that `raysl data prepare` expects.
        download: whether torchvision can download it.
        class_list: whether the names of its classes are in the package, to choose them from a larger set.
        note: what else there is to know.
    """

    name: str
    title: str
    splits: Mapping[str, int | None]
    classes: int
    size: str
    licence: str
    get: str
    release: Release
    mean: Triple | None = None
    std: Triple | None = None
    download: bool = False
    class_list: bool = False
    note: str = ""

    def options(self) -> str:
        """Return the options by which `raysl data prepare` comes by the set."""
        return "--download" if self.download else "--from FOLDER"

    def class_names(self) -> list[str] | None:
        """Return the classes to take, sorted, or None for all."""
        if not self.class_list:
            return None
        text = files("raysl.data.catalog").joinpath("classes", f"{self.name}.txt").read_text(encoding="utf-8")
        return read_classes(text)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def read_classes(text: str) -> list[str]:
    """Return the classes of a list, sorted: the first word of each line; `#` begins a comment."""
    words = (line.partition("#")[0].split() for line in text.splitlines())
    return sorted({word[0] for word in words if word})


_CIFAR = "none stated by its authors; they ask to cite Krizhevsky, Learning Multiple Layers of Features, 2009"
_IMAGENET = "ImageNet's terms of access: non-commercial research and education"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CIFAR100_MEAN, _CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
_TORCHVISION = "torchvision downloads it: --download; or --from a folder that holds {}"
_NATURAL = "of many sizes, about 500x375"
_OF_IMAGENET = "--from a folder of ImageNet-1k: train/ and val/ with a folder for each class"


def _imagenet_part(name: str, classes: int, train: int | None, note: str) -> Entry:
    return Entry(
        name,
        f"ImageNet-{classes}",
        {"train": train, "val": 50 * classes},
        classes,
        _NATURAL,
        _IMAGENET,
        _OF_IMAGENET,
        "folder",
        _IMAGENET_MEAN,
        _IMAGENET_STD,
        class_list=True,
        note=note,
    )


ENTRIES = (
    Entry(
        "digits",
        "Handwritten digits of scikit-learn",
        {"train": 1438, "test": 359},
        10,
        "8x8 grey",
        "CC BY 4.0 (UCI Machine Learning Repository)",
        "comes with scikit-learn: nothing to prepare",
        "digits",
    ),
    Entry(
        "cifar10",
        "CIFAR-10",
        {"train": 50_000, "test": 10_000},
        10,
        "32x32",
        _CIFAR,
        _TORCHVISION.format("cifar-10-batches-py/"),
        "cifar",
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        download=True,
    ),
    Entry(
        "cifar100",
        "CIFAR-100",
        {"train": 50_000, "test": 10_000},
        100,
        "32x32",
        _CIFAR,
        _TORCHVISION.format("cifar-100-python/"),
        "cifar",
        _CIFAR100_MEAN,
        _CIFAR100_STD,
        download=True,
    ),
    Entry(
        "cifar20",
        "CIFAR-100 with its 20 coarse labels",
        {"train": 50_000, "test": 10_000},
        20,
        "32x32",
        _CIFAR,
        _TORCHVISION.format("cifar-100-python/"),
        "cifar",
        _CIFAR100_MEAN,
        _CIFAR100_STD,
        download=True,
    ),
    Entry(
        "stl10",
        "STL-10",
        {"train": 5000, "unlabeled": 100_000, "test": 8000},
        10,
        "96x96",
        "made of ImageNet's images: its terms; the authors ask to cite Coates et al., AISTATS 2011",
        _TORCHVISION.format("stl10_binary/"),
        "stl10",
        (0.4467, 0.4398, 0.4066),
        (0.2603, 0.2566, 0.2713),
        download=True,
        note="data.train_split: train, unlabeled or train+unlabeled",
    ),
    Entry(
        "tiny-imagenet",
        "Tiny ImageNet",
        {"train": 100_000, "val": 10_000},
        200,
        "64x64",
        _IMAGENET,
        "--from the unpacked tiny-imagenet-200.zip (cs231n.stanford.edu)",
        "tiny-imagenet",
        (0.4802, 0.4481, 0.3975),
        (0.2770, 0.2691, 0.2821),
        note="its 10,000 test images have no labels and are left out",
    ),
    Entry(
        "imagenet",
        "ImageNet-1k (ILSVRC 2012)",
        {"train": 1_281_167, "val": 50_000},
        1000,
        _NATURAL,
        _IMAGENET,
        "image-net.org, after registration; --from its folder: train/ and val/, a folder for each class",
        "folder",
        _IMAGENET_MEAN,
        _IMAGENET_STD,
    ),
    _imagenet_part("imagenet100", 100, 126_689, "classes of Tian et al., arXiv 1906.05849 (CMC)"),
    _imagenet_part("imagenet50", 50, None, "classes of Van Gansbeke et al., arXiv 2005.12320 (SCAN)"),
    _imagenet_part("imagenet200", 200, None, "classes of Van Gansbeke et al., arXiv 2005.12320 (SCAN)"),
    Entry(
        "imagenette",
        "Imagenette 2, ten easy classes of ImageNet",
        {"train": 9469, "val": 3925},
        10,
        _NATURAL,
        "Apache-2.0 for the selection (fast.ai); the images have ImageNet's terms",
        _TORCHVISION.format("imagenette2/"),
        "imagenette",
        _IMAGENET_MEAN,
        _IMAGENET_STD,
        download=True,
    ),
    Entry(
        "voc07",
        "Pascal VOC 2007, classification",
        {"train": 5011, "test": 4952},
        20,
        _NATURAL,
        "Flickr's terms of use, for the photographs",
        _TORCHVISION.format("VOCdevkit/VOC2007/ (trainval and test unpacked into one)"),
        "voc",
        _IMAGENET_MEAN,
        _IMAGENET_STD,
        download=True,
        note="an image has several classes (column labels); train is its trainval",
    ),
)
