"""Reads encoded images and their labels from Parquet files or folders of images."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysl.data.config import DataConfig
from raysl.data.decode import Record, read_file
from raysl.data.decoded import Ids, Labels, content_id
from raysl.data.layout import Files
from raysl.data.location import Location, concurrently, read_all, refused
from raysl.data.splits import Codes
from raysl.errors import InputError

_DEFAULT_LABELS = "label"
_ROWS = 1024
_OFF = "metrics that need labels (eval/knn_top1) are off"


@dataclass(frozen=True)
class LabelColumn:
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


def numbered(column: LabelColumn, known: tuple[str, ...]) -> tuple[Labels | None, tuple[str, ...] | None]:
    """Return labels as class indices, and the name of each index; `known` names keep their numbers."""
    if column.words is None:
        return column.numbers, column.names
    names = known + tuple(sorted(set(column.words) - set(known)))
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[word] for word in column.words], np.int64), names


def open_source(files: Files, config: DataConfig) -> ParquetSource | FolderSource:
    """Return the reader of some files.

    Raises:
        InputError: they hold no images, or cannot be read.
    """
    source = ParquetSource(files, config) if files.parquet else FolderSource(files)
    if source.count == 0:
        raise InputError(f"{files.root} holds no images: its Parquet files have no rows")
    return source


def content_ids(source: ParquetSource | FolderSource) -> Ids:
    """Return the id of every image, for which they are read but not decoded."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        ids = [found for records in source.batches() for found in pool.map(_id, records)]
    return np.array(ids, np.uint64)


def _id(record: Record) -> int:
    return content_id(record[0] if isinstance(record[0], bytes) else read_file(record[0]))


class FolderSource:
    """Images in folders named after their class, or flat."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.count = len(files.paths)

    def batches(self) -> Iterator[list[Record]]:
        """Yield the images, some at a time; files of this machine are left to whoever decodes them."""
        for start in range(0, self.count, _ROWS):
            paths = self._files.paths[start : start + _ROWS]
            images: Iterable[bytes | Location] = read_all(paths) if self._files.root.uri else paths
            yield [(image, str(path)) for image, path in zip(images, paths, strict=True)]

    def labels(self) -> LabelColumn:
        """Return the class folder of each image."""
        root = self._files.root
        if self._files.paths[0].parent == root:
            return LabelColumn(note=f"{root} has no class folders: {_OFF}")
        return LabelColumn(words=[path.below(root).split("/")[0] for path in self._files.paths])

    def groups(self, name: str) -> Codes:
        """Refuse: files have no columns."""
        raise InputError(
            f"data.group = {name}: {self._files.root} holds image files, which have no columns; "
            "use Parquet, or remove the key"
        )


class ParquetSource:
    """Parquet files with a column of encoded images and perhaps one of labels."""

    def __init__(self, files: Files, config: DataConfig) -> None:
        self._files = files
        self._image = config.image_column
        self._some_unlabelled = "unlabeled" in config.train_split
        self._readers = open_all(files)
        self.count = sum(reader.metadata.num_rows for reader in self._readers)
        for path, reader in zip(files.paths, self._readers, strict=True):
            check_image_column(path, reader.schema_arrow, self._image)
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

    def metadata(self) -> list[pq.FileMetaData]:
        """Return what each file says of its row groups."""
        return [reader.metadata for reader in self._readers]

    def batches(self) -> Iterator[list[Record]]:
        """Yield the images, some at a time."""
        for path, reader in zip(self._files.paths, self._readers, strict=True):
            row = 0
            with reading(path):
                for batch in reader.iter_batches(batch_size=_ROWS, columns=[self._image]):
                    yield records_of(batch.column(0), path, row)
                    row += batch.num_rows

    def labels(self) -> LabelColumn:
        """Return the column of labels.

        Raises:
            InputError: it holds what cannot be a label.
        """
        if self._label is None:
            return LabelColumn(note=self._note)
        where = f"{self._files.root}, column '{self._label}'"
        column = self._label_values(self._label)
        if column.null_count == len(column):
            return LabelColumn(note=f"{where} is empty: {_OFF}")
        if column.null_count:
            raise InputError(
                f"{where}: {column.null_count} of {len(column)} labels are missing: label all rows or none"
            )
        if pa.types.is_large_string(column.type):
            return LabelColumn(words=column.to_pylist())
        if not pa.types.is_integer(column.type):
            raise InputError(f"{where} is {column.type}: labels are integers or names; set data.label_column")
        numbers = column.to_numpy().astype(np.int64)
        if numbers.max() < 0:
            return LabelColumn(note=f"{where} is -1 throughout, which means unlabelled: {_OFF}")
        names = class_names(self._readers[0].schema_arrow, self._label)
        highest = len(names) - 1 if names is not None else np.iinfo(np.int64).max
        unlabelled = int((numbers == -1).sum())
        lowest = -1 if self._some_unlabelled else 0
        if numbers.min() < lowest or numbers.max() > highest:
            raise InputError(
                f"{where} runs from {numbers.min()} to {numbers.max()}: expected class numbers from 0 on"
            )
        note = f"{unlabelled} of {len(numbers)} images have no label (-1)" if unlabelled else ""
        return LabelColumn(numbers=numbers, names=names, note=note)

    def groups(self, name: str) -> Codes:
        """Return the number of the group of each row: (N,), from 0 on.

        Raises:
            InputError: there is no such column, or it has missing values or no names or integers.
        """
        for path, reader in zip(self._files.paths, self._readers, strict=True):
            if name not in reader.schema_arrow.names:
                names = reader.schema_arrow.names
                raise InputError(f"{path} has no column '{name}' (data.group){_nearest(name, names)}")
        column = self._label_values(name)
        if column.null_count:
            raise InputError(
                f"{self._files.root}, column '{name}' (data.group): {column.null_count} of {len(column)} "
                "values are missing; give every image a group"
            )
        if not (pa.types.is_integer(column.type) or pa.types.is_large_string(column.type)):
            raise InputError(
                f"{self._files.root}, column '{name}' is {column.type}: groups are integers or names"
            )
        _, codes = np.unique(column.to_numpy(zero_copy_only=False), return_inverse=True)
        return codes.astype(np.int64)

    def _label_values(self, name: str) -> pa.ChunkedArray:
        """Return the labels of all files, which may differ in width but not between numbers and names."""
        columns: list[pa.ChunkedArray] = []
        files: dict[pa.DataType, Location] = {}
        for path, reader in zip(self._files.paths, self._readers, strict=True):
            with reading(path):
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


def open_parquet(path: Location) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        InputError: it cannot be read.
    """
    with reading(path):
        return pq.ParquetFile(path.path, filesystem=path.system if path.uri else None)


def open_all(files: Files) -> list[pq.ParquetFile]:
    """Open Parquet files; raises as `open_parquet`."""
    return list(concurrently(open_parquet, files.paths, bool(files.root.uri)))


@contextmanager
def reading(path: Location) -> Iterator[None]:
    """Say which file cannot be read: a damaged page shows only once it is decoded."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise (path.uri and refused(path, error)) or InputError(
            f"{path} is not a readable Parquet file ({reason}): write or copy it again"
        ) from error


def check_image_column(path: Location, schema: pa.Schema, wanted: str) -> None:
    """Refuse a file without a column of encoded images.

    Raises:
        InputError: names the columns there are.
    """
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


def records_of(column: pa.Array, path: Location, first: int) -> list[Record]:
    """Return the images of a part of a column that begins at a row of a file."""
    values = column.field("bytes") if pa.types.is_struct(column.type) else column
    return [
        (encoded or b"", f"{path} row {first + offset}") for offset, encoded in enumerate(values.to_pylist())
    ]


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the ClassLabel names that the `datasets` library writes into the schema."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        names = json.loads(raw)["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None
