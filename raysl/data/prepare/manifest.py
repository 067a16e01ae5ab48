"""The papers of a prepared set: `manifest.json` and `rejected.parquet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysl.data.prepare.shards import Record

FORMAT = 1
_REJECTED = pa.schema(
    [("split", pa.string()), ("path", pa.string()), ("label", pa.string()), ("reason", pa.string())]
)


@dataclass(frozen=True)
class Prepared:
    """A prepared set.

    Attributes:
        place: its folder or URI.
        manifest: what `manifest.json` says.
        made: shards that were made now; the others were there.
    """

    place: str
    manifest: Mapping[str, Any]
    made: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON, without the list of shards."""
        splits = {
            name: {key: value for key, value in split.items() if key not in ("shards", "class_names")}
            for name, split in self.manifest["splits"].items()
        }
        return {"place": self.place, "made": self.made, "splits": splits}

    def to_text(self) -> str:
        """Return a few lines for people."""
        lines = [f"{self.place}: prepared from {self.manifest['source']}"]
        for name, split in self.manifest["splits"].items():
            shards = split["shards"]
            size = sum(shard["bytes"] for shard in shards)
            classes = f", {split['classes']} classes" if split["classes"] else ", no labels"
            lines.append(
                f"  {name}: {split['rows']:,} images{classes}, {len(shards)} shards, {size / 2**20:,.1f} MiB"
            )
            if split["mean"]:
                shown = (", ".join(f"{value:.4f}" for value in split[key]) for key in ("mean", "std"))
                lines.append("    mean {}; std {}".format(*shown))
            counts = {**split["converted"], "resized": split["resized"]}
            told = ", ".join(f"{count:,} {trait}" for trait, count in counts.items() if count)
            lines += [f"    {told}"] if told else []
            if split["rejected"]:
                lines.append(f"    {split['rejected']:,} rejected: {self.place}/rejected.parquet")
        return "\n".join(lines)


def manifest_of(
    source: str, plan: Mapping[str, Any], names: Mapping[str, Sequence[str] | None], records: Iterable[Record]
) -> dict[str, Any]:
    """Return what `manifest.json` says.

    Args:
        source: what was prepared.
        plan: what the set was made from and how; another plan makes another set.
        names: class names of each split.
        records: of all shards.
    """
    by_split: dict[str, list[Record]] = {split: [] for split in names}
    for record in records:
        by_split[record.split].append(record)
    return {
        "format": FORMAT,
        "source": source,
        "plan": dict(plan),
        "splits": {split: _split(shards, names[split]) for split, shards in by_split.items()},
    }


def _split(shards: list[Record], names: Sequence[str] | None) -> dict[str, Any]:
    converted: Counter[str] = Counter()
    for shard in shards:
        converted.update(shard.converted)
    mean, std = statistics(shards)
    return {
        "rows": sum(shard.rows for shard in shards),
        "classes": len(names or ()),
        "class_names": list(names or ()),
        "mean": mean,
        "std": std,
        "converted": dict(sorted(converted.items())),
        "resized": sum(shard.resized for shard in shards),
        "rejected": sum(len(shard.rejected) for shard in shards),
        "shards": [shard.to_dict() for shard in shards],
    }


def statistics(shards: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over all pixels, scale 0-1; empty without pixels."""
    pixels = sum(shard.pixels for shard in shards)
    if not pixels:
        return [], []
    mean, std = [], []
    for channel in range(3):
        first = sum(shard.sums[channel] for shard in shards)
        second = sum(shard.squares[channel] for shard in shards)
        mean.append(first / pixels / 255)
        std.append((pixels * second - first**2) ** 0.5 / pixels / 255)
    return mean, std


def rejected_file(records: Iterable[Record]) -> pa.Buffer:
    """Return the Parquet file that lists the rejected images."""
    rows = [
        {**row, "label": None if row["label"] is None else str(row["label"])}
        for record in records
        for row in record.rejected
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, _REJECTED), sink)
    return sink.getvalue()
