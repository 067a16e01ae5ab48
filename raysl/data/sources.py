"""From a source the user names to decoded splits."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysl.data.config import DataConfig
from raysl.data.decode import Decoder, Record
from raysl.data.decoded import Decoded, Labels, in_selection
from raysl.data.digits import load_digits
from raysl.data.layout import Files, Split, test_files, train_files
from raysl.errors import InputError

DIGITS = "digits"
_DEFAULT_LABELS = "label"
_ROWS = 1024
_OFF = "metrics that need labels (eval/knn_top1) are off"


def load_split(config: DataConfig, split: Split) -> Decoded:
    """Decode one split: `train` without the held-out images, `selection` those alone, or `test`.

    Raises:
        InputError: the source is missing, empty, unreadable or without such a split; the message says what to
            do.
    """
    if split == "test":
        return _load_test(config)
    train, selection = load_training(config)
    return train if split == "train" else selection


def load_training(config: DataConfig) -> tuple[Decoded, Decoded]:
    """Decode the training images once and return (train, selection): exact complements, no image in both.

    Raises:
        InputError: the source is missing, empty or unreadable; the message says what to do.
    """
    whole = (
        load_digits("train", _channels(config))
        if config.source == DIGITS
        else _read(train_files(config), config)
    )
    return _split_off(whole, in_selection(whole.ids, config.selection))


def _load_test(config: DataConfig) -> Decoded:
    if config.source == DIGITS and config.test is None:
        return load_digits("test", _channels(config))
    files = test_files(config)
    known = () if config.source == DIGITS else _label_names(train_files(config), config)
    return _read(files, config, known)


def _channels(config: DataConfig) -> int:
    if config.channels is not None:
        return config.channels
    return 1 if config.source == DIGITS else 3


def _split_off(whole: Decoded, held_out: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Decoded, Decoded]:
    """Return (rest, held out), moving the rest within the array of `whole`, which must not be used again.

    A second copy of the training images would double the peak of memory.
    """
    selection = whole.rows(held_out)
    kept = np.flatnonzero(~held_out)
    for start in range(0, len(kept), _ROWS):
        rows = kept[start : start + _ROWS]
        whole.images[start : start + len(rows)] = whole.images[rows]
    labels = None if whole.labels is None else whole.labels[kept]
    train = replace(whole, images=whole.images[: len(kept)], labels=labels, ids=whole.ids[kept])
    return train, replace(selection, notes=())


def _read(files: Files, config: DataConfig, known: tuple[str, ...] = ()) -> Decoded:
    """Decode all of `files`; `known` are class names of the training split, which keep their numbers."""
    source = _ParquetSource(files, config) if files.parquet else _FolderSource(files)
    if source.count == 0:
        raise InputError(f"{files.root} holds no images: its Parquet files have no rows")
    decoder = Decoder(config, _channels(config), source.count)
    for records in source.batches():
        decoder.add(records)
    images, ids = decoder.finish()
    column = source.labels()
    labels, names = _numbered(column, known)
    notes = tuple(note for note in (column.note, decoder.note) if note)
    return Decoded(images, labels, ids, names, notes)


@dataclass(frozen=True)
class _LabelColumn:
    """Labels as a source has them.

    Attributes:
        numbers: (N,) class indices, or None.
        words: N class names instead, or None.
        names: the name of each index, where the source tells.
        note: why there are no labels.
    """

    numbers: Labels | None = None
    words: list[str] | None = None
    names: tuple[str, ...] | None = None
    note: str = ""


def _numbered(column: _LabelColumn, known: tuple[str, ...]) -> tuple[Labels | None, tuple[str, ...] | None]:
    if column.words is None:
        return column.numbers, column.names
    names = known + tuple(sorted(set(column.words) - set(known)))
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[word] for word in column.words], np.int64), names


def _label_names(files: Files, config: DataConfig) -> tuple[str, ...]:
    """Return the names of the classes of `files` where labels are words, without reading an image."""
    source = _ParquetSource(files, config) if files.parquet else _FolderSource(files)
    return tuple(sorted(set(source.labels().words or ())))


class _FolderSource:
    """Images in folders named after their class, or flat."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.count = len(files.paths)

    def batches(self) -> Iterator[list[Record]]:
        for start in range(0, self.count, _ROWS):
            yield [(path, str(path)) for path in self._files.paths[start : start + _ROWS]]

    def labels(self) -> _LabelColumn:
        root = self._files.root
        if self._files.paths[0].parent == root:
            return _LabelColumn(note=f"{root} has no class folders: {_OFF}")
        return _LabelColumn(words=[path.relative_to(root).parts[0] for path in self._files.paths])


class _ParquetSource:
    """Parquet files with a column of encoded images and perhaps one of labels."""

    def __init__(self, files: Files, config: DataConfig) -> None:
        self._files = files
        self._image = config.image_column
        self._readers = [_open(path) for path in files.paths]
        self.count = sum(reader.metadata.num_rows for reader in self._readers)
        for path, reader in zip(files.paths, self._readers, strict=True):
            _check_image_column(path, reader.schema_arrow, self._image)
        self._label, self._note = self._find_labels(config.label_column)

    def _find_labels(self, wanted: str | None) -> tuple[str | None, str]:
        if wanted is None:
            return None, f"data.label_column is null: {_OFF}"
        for path, reader in zip(self._files.paths, self._readers, strict=True):
            names = reader.schema_arrow.names
            if wanted not in names:
                # Whoever names a column means it; the default is only an offer.
                if wanted != _DEFAULT_LABELS:
                    raise InputError(
                        f"{path} has no column '{wanted}' (data.label_column){_nearest(wanted, names)}"
                    )
                return None, f"{path} has no column '{wanted}' (it has {', '.join(names)}): {_OFF}"
        return wanted, ""

    def batches(self) -> Iterator[list[Record]]:
        for path, reader in zip(self._files.paths, self._readers, strict=True):
            row = 0
            with _reading(path):
                for batch in reader.iter_batches(batch_size=_ROWS, columns=[self._image]):
                    yield _records(batch.column(0), path, row)
                    row += batch.num_rows

    def labels(self) -> _LabelColumn:
        if self._label is None:
            return _LabelColumn(note=self._note)
        where = f"{self._files.root}, column '{self._label}'"
        column = self._label_values(self._label)
        if column.null_count == len(column):
            return _LabelColumn(note=f"{where} is empty: {_OFF}")
        if column.null_count:
            raise InputError(
                f"{where}: {column.null_count} of {len(column)} labels are missing: label all rows or none"
            )
        if pa.types.is_large_string(column.type):
            return _LabelColumn(words=column.to_pylist())
        if not pa.types.is_integer(column.type):
            raise InputError(f"{where} is {column.type}: labels are integers or names; set data.label_column")
        numbers = column.to_numpy().astype(np.int64)
        if numbers.max() < 0:
            return _LabelColumn(note=f"{where} is -1 throughout, which means unlabelled: {_OFF}")
        names = _class_names(self._readers[0].schema_arrow, self._label)
        highest = len(names) - 1 if names is not None else np.iinfo(np.int64).max
        if numbers.min() < 0 or numbers.max() > highest:
            raise InputError(
                f"{where} runs from {numbers.min()} to {numbers.max()}: expected class numbers from 0 on"
            )
        return _LabelColumn(numbers=numbers, names=names)

    def _label_values(self, name: str) -> pa.ChunkedArray:
        """Return the labels of all files, which may differ in width but not between numbers and names."""
        columns: list[pa.ChunkedArray] = []
        files: dict[pa.DataType, Path] = {}
        for path, reader in zip(self._files.paths, self._readers, strict=True):
            with _reading(path):
                columns.append(_widest(reader.read([name]).column(0)))
            if not pa.types.is_null(columns[-1].type):
                files.setdefault(columns[-1].type, path)
        if len(files) > 1:
            (kind, path), (other, second) = list(files.items())[:2]
            raise InputError(
                f"column '{name}' is {kind} in {path} and {other} in {second}: write labels of one type"
            )
        kind = next(iter(files), pa.null())
        return pa.chunked_array([part for column in columns for part in column.cast(kind).chunks], kind)


def _widest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_integer(column.type):
        return pc.cast(column, pa.int64(), safe=False)  # what is beyond becomes negative, which is refused
    return pc.cast(column, pa.large_string()) if pa.types.is_string(column.type) else column


def _open(path: Path) -> pq.ParquetFile:
    with _reading(path):
        return pq.ParquetFile(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say which file cannot be read: a damaged page shows only once it is decoded."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a readable Parquet file ({reason}): write or copy it again"
        ) from error


def _check_image_column(path: Path, schema: pa.Schema, wanted: str) -> None:
    if wanted not in schema.names:
        raise InputError(
            f"{path} has no column '{wanted}' (data.image_column){_nearest(wanted, schema.names)}"
        )
    kind = schema.field(wanted).type
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not plain and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        raise InputError(
            f"{path}, column '{wanted}' is {kind}: expected encoded images (binary, or a struct of bytes)"
        )


def _nearest(wanted: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    return f": it has {', '.join(names)}" + (f"; did you mean '{near[0]}'?" if near else "")


def _records(column: pa.Array, path: Path, first: int) -> list[Record]:
    values = column.field("bytes") if pa.types.is_struct(column.type) else column
    return [
        (encoded or b"", f"{path} row {first + offset}") for offset, encoded in enumerate(values.to_pylist())
    ]


def _class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the ClassLabel names that the `datasets` library writes into the schema."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        names = json.loads(raw)["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None
