"""Certifying methods, and carrying what was found with small runs to a big one: `verify` and `scale`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raysl.api.job import Say, Source, default_name, run_config, silent
from raysl.errors import InputError

if TYPE_CHECKING:
    from raysl.data.config import DataConfig
    from raysl.train.scaled import Scaled
    from raysl.verify.certificate import Verification


def verify(
    *methods: str,
    overrides: Sequence[str] = (),
    workers: Sequence[int] = (1, 2, 4),
    vectors: str | Path | None = None,
    say: Say = silent,
) -> Verification:
    """Certify methods: against their authors' code, on several workers against one, in bf16 against float32.

    Workers are processes of this machine; a script that calls this needs `if __name__ == "__main__":`.

    Args:
        methods: names, `all`, or methods of one's own as `./my_loss.py:MyMethod`.
        overrides: `key=value` strings for the run that is compared, the method's digits recipe.
        workers: numbers of workers.
        vectors: directory of reference vectors; those that ship with raysl when not given.
        say: told what is being done.

    Raises:
        InputError: the arguments cannot be used. What fails is in the result instead.
    """
    from raysl.verify.certificate import verify

    return verify(
        methods, overrides=overrides, workers=workers, vectors=Path(vectors) if vectors else None, say=say
    )


def scale(
    *sources: Source,
    batch_size: int | None = None,
    workers: int | None = None,
    epochs: int | None = None,
    image_size: int | None = None,
    data: str | None = None,
    to: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Scaled:
    """Write the config of a larger run, and say of every value what becomes of it and why.

    Args:
        sources: the small run: recipe names, YAML files (`runs/SWEEP/best.yaml`) or mappings.
        batch_size: images in the global batch of the big run. What is not given stays.
        workers: processes that share it.
        epochs: its length, and its schedules' horizon.
        image_size: side of its first view in pixels.
        data: its `data.source`.
        to: the file to write; in this folder, and named after the source and the batch, when not given.
        overrides: `dotted.key=value` strings, applied to the small run.

    Raises:
        InputError: nothing is to change, a source cannot be used, the batch does not divide among the
            workers, or the file is there.
    """
    from raysl.train.scale import ScaleRequest, scale
    from raysl.train.scaled import write_scaled

    config = run_config(sources, overrides)
    if all(value is None for value in (batch_size, workers, epochs, image_size, data)):
        raise InputError(
            "nothing to change: give --global-batch, --workers, --epochs, --image-size or --data"
        )
    batch = config.train.batch_size if batch_size is None else batch_size
    shared = config.launch.workers if workers is None else workers
    request = ScaleRequest(batch, shared, epochs, image_size, data)
    big, changes = scale(config, request, _images(config.data, data))
    path = Path(f"{default_name(sources, overrides, config)}-b{batch}.yaml") if to is None else Path(to)
    return write_scaled(path, big, changes, given=sources[-1])


def _images(data: DataConfig, other: str | None) -> tuple[int, int] | None:
    """Count the training images of the small and the big run; None where they are not all here."""
    from raysl.data.sources import count_training

    try:
        small = count_training(data)
        if other is None or other == data.source:
            return small, small
        return small, count_training(data.model_copy(update={"source": other}))
    except InputError:
        return None
