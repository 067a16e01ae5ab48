"""One shard of a prepared set: made in a task of its own from a part of a split, and known by its record."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysl.data.decode import why_unreadable
from raysl.data.decoded import content_id
from raysl.data.layout import UNFINISHED
from raysl.data.prepare.origins import SplitOrigin
from raysl.data.prepare.pixels import Shape, Treatment, keep
from raysl.data.prepare.recorded import Facts, decoder, footer_of, packed, record_of
from raysl.data.prepare.store import Store

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Record:
    """What is known of a finished shard.

    Attributes:
        name: its file.
        split: which it belongs to.
        rows: images in it.
        bytes: size of the file.
        sha256: checksum of the file.
        groups: rows of each row group.
        pixels: number of pixels of its images.
        sums: sum of each channel's values (0-255) over all pixels.
        squares: sum of their squares.
        converted: how many images decoding converts, by what.
        resized: how many images had their size changed.
        rejected: the images left out: path, label and reason of each.
        footer: checksum of the file's footer.
        recorded: checksum of what is recorded of its images, see `recorded`.
        decoder: what decoded them.
    """

    name: str
    split: str
    rows: int
    bytes: int
    sha256: str
    groups: list[int]
    pixels: int
    sums: list[int]
    squares: list[int]
    converted: dict[str, int] = field(default_factory=dict)
    resized: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    footer: str = ""
    recorded: str = ""
    decoder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """A shard to make.

    Attributes:
        name: its file.
        split: which it belongs to.
        images: what goes into it.
        group_rows: rows of a row group, at most.
        shape: size of its images.
        treatment: how images are kept.
        store: where it goes.
        known: the record of the file that may be there already.
    """

    name: str
    split: str
    images: SplitOrigin
    group_rows: int
    shape: Shape
    treatment: Treatment
    store: Store
    known: Record | None = None


def make_shard(job: Job) -> tuple[Record, bool]:
    """Make a shard and the record of its images, unless both are there and have their checksums.

    Returns:
        Its record, and whether it was made.
    """
    facts = record_of(job.name)
    wanted = None if job.known is None else (job.known.sha256, job.known.recorded)
    if job.known is not None and (job.store.sha256(job.name), job.store.sha256(facts)) == wanted:
        return job.known, False
    seen = _Seen()
    schema = schema_of(job.images)
    sink = pa.BufferOutputStream()
    # Encoded images do not become smaller by being compressed again.
    compression = {"image.bytes": "NONE"} | dict.fromkeys(_leaves(schema), "ZSTD")
    groups: list[int] = []
    with pq.ParquetWriter(sink, schema, compression=compression, use_dictionary=False) as writer:
        for rows in _grouped(list(_rows(job, seen)), job.group_rows):
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))
            groups.append(len(rows))
    data, recorded = sink.getvalue(), packed(seen.facts)
    record = Record(
        job.name,
        job.split,
        sum(groups),
        data.size,
        hashlib.sha256(data).hexdigest(),
        groups,
        seen.pixels,
        seen.sums.tolist(),
        seen.squares.tolist(),
        dict(sorted(seen.converted.items())),
        seen.resized,
        seen.rejected,
        footer_of(memoryview(data)),
        hashlib.sha256(recorded).hexdigest(),
        decoder(),
    )
    job.store.write(facts, recorded)
    job.store.write(job.name, data)
    job.store.write_json(f"{UNFINISHED}/{job.name}.json", record.to_dict())
    return record, True


def schema_of(images: SplitOrigin) -> pa.Schema:
    """Return the columns of a split's shards, with the class names where `datasets` looks for them."""
    fields, features = [pa.field("image", _IMAGE)], {"image": {"_type": "Image"}}
    if isinstance(images.labels, list):
        fields.append(pa.field("labels", pa.list_(pa.int64())))
        label: dict[str, Any] = {"names": list(images.names or ()), "_type": "ClassLabel"}
        features["labels"] = {"feature": label, "_type": "Sequence"}  # type: ignore[dict-item]
    elif images.labels is not None:
        fields.append(pa.field("label", pa.int64()))
        if images.names is not None:
            features["label"] = {"names": list(images.names), "_type": "ClassLabel"}  # type: ignore[dict-item]
    taken = {one.name for one in fields}
    fields += [one for one in images.images.columns() if one.name not in taken]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


class _Seen:
    """Counts over the images of a shard."""

    def __init__(self) -> None:
        self.pixels, self.resized = 0, 0
        self.sums, self.squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
        self.converted: Counter[str] = Counter()
        self.rejected: list[dict[str, Any]] = []
        self.facts: list[Facts] = []


def _rows(job: Job, seen: _Seen) -> Iterator[dict[str, Any]]:
    """Yield the rows of the images that are whole, and count."""
    values = np.arange(256, dtype=np.int64)
    labels = job.images.labels
    for row, item in enumerate(job.images.images.read()):
        label = None if labels is None else labels[row]
        shown = label if isinstance(label, list) or label is None else int(label)
        try:
            kept = keep(item, job.shape, job.treatment)
        except Exception as error:  # PIL's plugins let any exception through when the bytes are broken
            reason = why_unreadable(error)
            seen.rejected.append({"split": job.split, "path": item.path, "label": shown, "reason": reason})
            continue
        seen.pixels += int(kept.histogram[0].sum())
        first, second = kept.histogram @ values, kept.histogram @ values**2
        seen.sums += first
        seen.squares += second
        width, height = kept.size
        seen.facts.append(Facts(content_id(kept.encoded), height, width, first, second))
        seen.converted.update(kept.traits)
        seen.resized += kept.resized
        labelled = {} if shown is None else {"labels" if isinstance(shown, list) else "label": shown}
        yield {**item.columns, "image": {"bytes": kept.encoded, "path": item.path}, **labelled}


def _grouped(rows: list[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in groups of about equal size, none of more than `most`."""
    count = -(-len(rows) // most)
    for number in range(count):
        yield rows[number * len(rows) // count : (number + 1) * len(rows) // count]


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the columns that are worth compressing, as Parquet calls them."""
    plain = [field.name for field in schema if not pa.types.is_nested(field.type)]
    return ["image.path", *plain]
