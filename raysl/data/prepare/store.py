"""Where a prepared set is written: a folder here, or a URI that pyarrow's file systems know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from raysl.errors import InputError, RayslError, not_written

_CHUNK = 1 << 24


@dataclass(frozen=True)
class Store:
    """A folder on a file system; small, and the same for every process that is given it.

    Attributes:
        place: absolute path, or URI.
    """

    place: str

    @classmethod
    def at(cls, place: str) -> Store:
        """Return the store of a path or URI.

        Raises:
            InputError: a URI that pyarrow does not know.
        """
        store = cls(place if "://" in place else str(Path(place).expanduser().absolute()))
        store._open()
        return store

    def path(self, name: str = "") -> str:
        """Return how a file in it is called in a message."""
        return f"{self.place}/{name}" if name else self.place

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what lies in it, or in a folder of it; nothing if there is none."""
        system, root = self._open()
        found = system.get_file_info(
            fs.FileSelector(f"{root}/{folder}" if folder else root, allow_not_found=True)
        )
        return sorted(info.base_name for info in found)

    def make(self, name: str = "") -> None:
        """Make the folder, or one in it."""
        system, root = self._open()
        try:
            system.create_dir(f"{root}/{name}" if name else root, recursive=True)
        except OSError as error:
            raise not_written(Path(self.path(name)), error) from error

    def remove(self, name: str) -> None:
        """Remove a folder in it."""
        system, root = self._open()
        system.delete_dir(f"{root}/{name}")

    def write(self, name: str, data: Any) -> None:
        """Write a file whole.

        Raises:
            RayslError: it could not be written.
        """
        system, root = self._open()
        try:
            with system.open_output_stream(f"{root}/{name}") as stream:
                stream.write(data)
        except OSError as error:
            raise not_written(Path(self.path(name)), error) from error

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file."""
        self.write(name, json.dumps(values, indent=1).encode())

    def read_json(self, name: str) -> Any:
        """Return a JSON file's values; None if it is missing or torn."""
        system, root = self._open()
        try:
            with system.open_input_stream(f"{root}/{name}") as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError:
            return None

    def sha256(self, name: str) -> str | None:
        """Return a file's checksum, or None if it is missing."""
        system, root = self._open()
        digest = hashlib.sha256()
        try:
            with system.open_input_stream(f"{root}/{name}") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def _open(self) -> tuple[fs.FileSystem, str]:
        if "://" not in self.place:
            return fs.LocalFileSystem(), self.place
        try:
            system, root = fs.FileSystem.from_uri(self.place)
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"{self.place}: {' '.join(str(error).split())}; give a folder, or a URI such as s3://bucket/folder"
            ) from None
        except OSError as error:
            raise RayslError(f"{self.place}: {' '.join(str(error).split())}") from error
        return system, str(root).rstrip("/")
