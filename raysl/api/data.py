"""What the commands `raysl data ...` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raysl.api.job import Say, silent
from raysl.cluster.connect import connect
from raysl.config import load
from raysl.errors import InputError
from raysl.machine import allocation
from raysl.train.config import RunConfig

if TYPE_CHECKING:
    from raysl.data.catalog import Entry
    from raysl.data.measured import Measured
    from raysl.data.prepare.find import Splits
    from raysl.data.prepare.manifest import Prepared
    from raysl.data.prepare.prepare import Request

# What is measured where no recipe is named, and up to which side of an image.
_DEFAULTS = ((16, "digits/simclr"), (96, "cifar10/w_mse"), (None, "imagenet/mec"))
_MOST_SHOWN = 64


def data_list() -> list[Entry]:
    """Return the data sets that have a name."""
    from raysl.data.catalog import CATALOG

    return list(CATALOG.values())


def data_prepare(
    source: str | Path,
    out: str | Path,
    request: Request | None = None,
    *,
    place: str | Path | None = None,
    download: bool = False,
    splits: Sequence[str] = (),
    classes: str | Path | None = None,
    image_column: str = "image",
    label_column: str = "label",
    cluster: str = "auto",
    say: Say = silent,
) -> Prepared:
    """Write a source of images as sharded Parquet; the same call continues, or checks what is finished.

    Args:
        source: a path or URI, or a name of `data_list()`.
        out: new folder or URI.
        request: sizes of images and shards, and how many images may be broken.
        place: folder or URI of a named set's release.
        download: let torchvision download the release, to `place` or `downloads/` beside `out`.
        splits: those to take; all when not given.
        classes: text file of the classes to take, one a line.
        image_column: in Parquet.
        label_column: in Parquet.
        cluster: `auto`, `local` or an address, as `--cluster`.
        say: told the lines for people.

    Raises:
        InputError: the arguments or the source cannot be used, or `out` holds something else.
        RayslError: more images are broken than may be.
        Interrupted: a signal came; the same call continues.
    """
    from raysl.data.prepare.find import find_splits
    from raysl.data.prepare.prepare import Request, prepare

    source, out = str(source), str(out)
    _refuse_inside(source, place, out)
    beside = Path("downloads") if "://" in out else Path(out).expanduser().parent / "downloads"
    found = find_splits(
        source,
        place=None if place is None else str(place),
        downloads=beside if download else None,
        image_column=image_column,
        label_column=label_column,
    )
    found = _chosen(found, source, splits, classes)
    with connect(cluster, dashboard=False) as ray:
        say(ray.describe())
        return prepare(source, found, out, request or Request(), say)


def _refuse_inside(source: str, place: str | Path | None, out: str) -> None:
    """Refuse to write into what is read: the next time, what was written would be read too."""
    from raysl.data.location import Location

    target = Location.of(out)
    for given in (source, place):
        if given is not None and target.is_within(Location.of(given)):
            raise InputError(f"{out} lies in {given}: give a folder outside of it")


def _chosen(found: Splits, source: str, splits: Sequence[str], classes: str | Path | None) -> Splits:
    from raysl.data.prepare.find import classes_of_file, of_classes

    missing = [name for name in splits if name not in found]
    if missing:
        raise InputError(f"--split {missing[0]}: {source} has {', '.join(found)}")
    found = {name: split for name, split in found.items() if name in splits or not splits}
    if classes is None:
        return found
    file = Path(classes).expanduser()
    return of_classes(found, classes_of_file(file), f"--classes {file}")


def data_bench(
    source: str | Path,
    recipe: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    seconds: float = 3.0,
    gpu_rate: float = 2500.0,
    cluster: str = "auto",
    say: Say = silent,
) -> Measured:
    """Measure what decoding, views and feeds cost on this machine, and how many cores a GPU would need.

    Args:
        source: the images, as `data.source`.
        recipe: whose views; one for images of such a size when not given.
        overrides: `dotted.key=value` strings for the recipe.
        seconds: time for each measurement.
        gpu_rate: images per second that a GPU takes.
        cluster: `auto`, `local` or an address, as `--cluster`.
        say: told the lines for people.

    Raises:
        InputError: the arguments or the source cannot be used, or no views can be made of its images.
    """
    from raysl.data.measure import measure_source

    for option, value in (("--seconds", seconds), ("--gpu-rate", gpu_rate)):
        if not value > 0:
            raise InputError(f"{option} {value:g}: expected a number above 0")
    overrides = [f"data.source={source}", *overrides]
    recipe = str(recipe or _default_recipe(overrides))
    config = load(RunConfig, [recipe], overrides)
    with connect(cluster, dashboard=False) as ray:
        say(ray.describe())
        return measure_source(
            config.data,
            config.views,
            recipe=recipe,
            cores=allocation().cpus,
            seconds=seconds,
            gpu_rate=gpu_rate,
        )


def _default_recipe(overrides: Sequence[str]) -> str:
    from raysl.data.sample import sample_pictures

    (picture,) = sample_pictures(load(RunConfig, ["digits/simclr"], overrides).data, 1)
    side = min(picture.pixels.shape[1:])
    return next(name for most, name in _DEFAULTS if most is None or side <= most)


@dataclass(frozen=True)
class Drawn:
    """A picture of images and their views.

    Attributes:
        file: where it was written.
        images: how many it shows.
        views: of each image.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    file: Path
    images: int
    views: int
    width: int
    height: int

    def describe(self) -> str:
        """Return it in a line for people."""
        views = f"{self.views} view{'s' if self.views > 1 else ''} each"
        return f"{self.file}: {self.images} images, {views}, {self.width}x{self.height} pixels"


def data_show(
    source: str | Path,
    recipe: str | Path,
    output: str | Path = "views.png",
    *,
    overrides: Sequence[str] = (),
    images: int = 8,
    seed: int = 0,
) -> Drawn:
    """Draw random training images, one to a row, beside the views that a recipe makes of them.

    Args:
        source: the images, as `data.source`.
        recipe: whose views.
        output: the picture's file.
        overrides: `dotted.key=value` strings for the recipe.
        images: how many to draw.
        seed: draws images and views.

    Raises:
        InputError: the arguments or the source cannot be used, no views can be made of its images, or the
            file cannot be written.
    """
    from PIL import Image

    from raysl.data.grid import recipe_grid
    from raysl.data.sample import sample_pictures

    if not 1 <= images <= _MOST_SHOWN:
        raise InputError(f"--images {images}: choose 1 to {_MOST_SHOWN}")
    config = load(RunConfig, [recipe], [f"data.source={source}", *overrides])
    pictures = sample_pictures(config.data, images, seed)
    picture = recipe_grid(pictures, config.views, config.method.plain_views, seed)
    path = Path(output)
    try:
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"-o {path} cannot be written ({error}): name a .png or .jpg in a folder that is there"
        ) from None
    return Drawn(path, len(pictures), config.views.count, picture.shape[1], picture.shape[0])
