"""Prepares a data set: plan, tasks, and the papers that say what has become of every image.

Each shard is one Ray task, and is kept once its record is written: a preparation that was killed goes on
where it was when the same command is run again, and one that is finished checks its checksums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from raysl.data.layout import MANIFEST, REJECTED, UNFINISHED
from raysl.data.location import Location
from raysl.data.prepare.manifest import FORMAT, Prepared, manifest_of, rejected_file
from raysl.data.prepare.origins import SplitOrigin
from raysl.data.prepare.pixels import Treatment
from raysl.data.prepare.progress import PrepareProgress
from raysl.data.prepare.recorded import FOLDER
from raysl.data.prepare.shards import Job, Record, make_shard
from raysl.data.prepare.store import Store
from raysl.errors import InputError, RayslError

_PLAN = f"{UNFINISHED}/plan.json"
_LISTED = 20
# Small images make small shards, so that many tasks share the work.
_SHARD_ROWS = 4096


@dataclass(frozen=True)
class Limit:
    """How many images may be bad: a number, or a share of all.

    Attributes:
        number: images, if not None.
        share: share of all images otherwise.
    """

    number: int | None = None
    share: float = 0.01

    def of(self, images: int) -> int:
        """Return how many of a number of images may be bad."""
        return self.number if self.number is not None else int(self.share * images)

    def __str__(self) -> str:
        return str(self.number) if self.number is not None else f"{100 * self.share:g}%"


@dataclass(frozen=True)
class Request:
    """How to write a set.

    Attributes:
        treatment: how images are kept.
        shard_bytes: about how large a shard is, measured by the source; at most 4,096 images in any case.
        shard_rows: images of a shard instead, at most.
        group_rows: images of a row group, at most.
        limit: how many images may be bad.
    """

    treatment: Treatment = field(default_factory=Treatment)
    shard_bytes: int = 64 << 20
    shard_rows: int | None = None
    group_rows: int = 256
    limit: Limit = field(default_factory=Limit)


def prepare(
    source: str,
    splits: Mapping[str, SplitOrigin],
    out: str,
    request: Request,
    say: Callable[[str], None] = print,
) -> Prepared:
    """Write splits as sharded Parquet, with the connected Ray.

    Args:
        source: what is prepared, for the manifest.
        splits: the images of each split.
        out: folder or URI.
        request: how.
        say: told what the user should hear.

    Raises:
        InputError: `out` holds something else.
        RayslError: more images are bad than allowed, or a shard could not be written.
    """
    splits = {name: _labelled(name, split, splits) for name, split in splits.items()}
    store = Store.at(out)
    sizes = {name: split.images.size() for name, split in splits.items()}
    counts = {name: _shards(len(split), sizes[name], request) for name, split in splits.items()}
    plan = _plan(splits, sizes, counts, request)
    finished = _claimed(store, plan)
    known = _known(store, finished)
    total = sum(len(split) for split in splits.values())
    jobs = _jobs(splits, counts, request, store, known)
    records, made = _run(jobs, total, request.limit, store, say)
    names = {name: split.names for name, split in splits.items()}
    if any(record.rejected for record in records):
        store.write(REJECTED, rejected_file(records))
    manifest = manifest_of(str(Location.of(source)), plan, names, records)
    store.write_json(MANIFEST, manifest)
    store.remove(UNFINISHED)
    return Prepared(store.path(), manifest, made)


def _labelled(name: str, split: SplitOrigin, splits: Mapping[str, SplitOrigin]) -> SplitOrigin:
    """Return a split with a column of labels (-1) where only the others have one: files of one form."""
    train = splits.get("train")
    if name != "unlabeled" or train is None or not isinstance(train.labels, np.ndarray):
        return split
    return replace(split, labels=np.full(len(split), -1, np.int64), names=train.names)


def _shards(images: int, size: int, request: Request) -> int:
    if request.shard_rows is not None:
        return max(1, -(-images // request.shard_rows))
    return max(1, -(-images // _SHARD_ROWS), min(images, -(-size // request.shard_bytes)))


def _plan(
    splits: Mapping[str, SplitOrigin], sizes: Mapping[str, int], counts: Mapping[str, int], request: Request
) -> dict[str, Any]:
    """Return what decides the bytes of every shard."""
    described = {}
    for name, split in splits.items():
        digest = hashlib.sha256(f"{split.images.mark(sizes[name])} {split.names}".encode())
        labels = split.labels
        digest.update(labels.tobytes() if isinstance(labels, np.ndarray) else repr(labels).encode())
        described[name] = {"images": len(split), "shards": counts[name], "digest": digest.hexdigest()}
    return {
        "format": FORMAT,
        "splits": described,
        "treatment": request.treatment.to_dict(),
        "group_rows": request.group_rows,
    }


def _claimed(store: Store, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """Begin, or go on with, a preparation; return the manifest if it was finished before.

    Raises:
        InputError: the folder holds something else, or a set that was made from other images or differently.
    """
    there = store.names()
    manifest: dict[str, Any] | None = store.read_json(MANIFEST)
    before = store.read_json(_PLAN) if manifest is None else manifest["plan"]
    if before is None and any(name != UNFINISHED for name in there):
        raise InputError(f"{store.path()} is not empty ({there[0]}): give a new folder")
    if before is not None and before != plan:
        changed = [key for key in plan if before.get(key) != plan[key]]
        raise InputError(
            f"{store.path()} was begun with other {' and '.join(changed)}: run that command again to finish "
            "it, or give a new folder"
        )
    store.make(UNFINISHED)
    store.make(FOLDER)
    store.write_json(_PLAN, plan)
    return manifest


def _known(store: Store, finished: Mapping[str, Any] | None) -> dict[str, Record]:
    """Return the records of the shards that were finished before, by their names."""
    splits = {} if finished is None else finished["splits"]
    shards = [shard for split in splits.values() for shard in split["shards"]]
    shards += [
        store.read_json(f"{UNFINISHED}/{name}") for name in store.names(UNFINISHED) if name != "plan.json"
    ]
    return {shard["name"]: Record(**shard) for shard in shards if shard is not None}


def _jobs(
    splits: Mapping[str, SplitOrigin],
    counts: Mapping[str, int],
    request: Request,
    store: Store,
    known: Mapping[str, Record],
) -> Iterator[Job]:
    for split, images in splits.items():
        order, count = images.dealt(), counts[split]
        shape = request.treatment.evaluation if split in ("val", "test") else request.treatment.train
        for number in range(count):
            name = f"{split}-{number:05d}-of-{count:05d}.parquet"
            rows = order[number * len(order) // count : (number + 1) * len(order) // count]
            yield Job(
                name,
                split,
                images.take(rows),
                request.group_rows,
                shape,
                request.treatment,
                store,
                known.get(name),
            )


def _run(
    jobs: Iterator[Job], images: int, limit: Limit, store: Store, say: Callable[[str], None]
) -> tuple[list[Record], int]:
    """Do the jobs, as many at a time as keep the cluster busy.

    Returns:
        Their records, sorted by name, and how many shards were made.
    """
    import ray

    task = ray.remote(num_cpus=1, max_retries=3)(make_shard)
    width = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running = [task.remote(job) for job in islice(jobs, width)]
    records: list[Record] = []
    made = 0
    try:
        with PrepareProgress(images) as progress:
            while running:
                (done,), running = ray.wait(running, num_returns=1)
                record, new = _result(done)
                records.append(record)
                made += new
                progress.add(record.rows + len(record.rejected), len(record.rejected))
                running += [task.remote(job) for job in islice(jobs, 1)]
                _check(records, images, limit, store, say)
    finally:
        for reference in running:
            ray.cancel(reference)
    return sorted(records, key=lambda record: record.name), made


def _result(reference: Any) -> tuple[Record, bool]:
    import ray

    try:
        result: tuple[Record, bool] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RayslError):
            raise error.cause from None
        raise
    except ray.exceptions.WorkerCrashedError as error:
        raise RayslError(
            "a process that makes shards died again and again, perhaps for want of memory: run the same "
            "command again to go on, or with smaller shards (--rows) into a new folder"
        ) from error
    return result


def _check(
    records: list[Record], images: int, limit: Limit, store: Store, say: Callable[[str], None]
) -> None:
    """End a preparation that finds too many bad images, and list them.

    Raises:
        RayslError: with the number and the first of them.
    """
    bad = [row for record in records for row in record.rejected]
    if len(bad) <= limit.of(images):
        return
    store.write(REJECTED, rejected_file(records))
    for row in bad[:_LISTED]:
        say(f"{row['split']}: {row['path']}: {row['reason']}")
    if len(bad) > _LISTED:
        say(f"... and {len(bad) - _LISTED} more")
    raise RayslError(
        f"{len(bad)} of {images} images are bad so far, and --max-bad {limit} allows {limit.of(images)}: "
        f"{store.path(REJECTED)} lists them; repair them, or allow more"
    )
