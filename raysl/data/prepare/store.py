"""Where a prepared set is written: a folder here, or a URI that pyarrow's file systems know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pyarrow import fs

from raysl.data.location import Location, reaching
from raysl.errors import not_written

_CHUNK = 1 << 24


@dataclass(frozen=True)
class Store:
    """A folder on a file system; small, and the same for every process that is given it.

    Attributes:
        root: the folder.
    """

    root: Location

    @classmethod
    def at(cls, place: str) -> Store:
        """Return the store of a path or URI.

        Raises:
            InputError: a URI that pyarrow does not know.
        """
        return cls(Location.of(place).absolute())

    def path(self, name: str = "") -> str:
        """Return how it, or a file in it, is called in a message."""
        return str(self._in(name))

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what lies in it, or in a folder of it; nothing if there is none."""
        place = self._in(folder)
        with reaching(place):
            found = place.system.get_file_info(fs.FileSelector(place.path, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def make(self, name: str = "") -> None:
        """Make the folder, or one in it."""
        place = self._in(name)
        try:
            place.system.create_dir(place.path, recursive=True)
        except OSError as error:
            raise not_written(str(place), error) from error

    def remove(self, name: str) -> None:
        """Remove a folder in it."""
        place = self._in(name)
        with reaching(place):
            place.system.delete_dir(place.path)

    def write(self, name: str, data: Any) -> None:
        """Write a file whole.

        Raises:
            RayslError: it could not be written.
        """
        place = self._in(name)
        try:
            with place.system.open_output_stream(place.path) as stream:
                stream.write(data)
        except OSError as error:
            raise not_written(str(place), error) from error

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file."""
        self.write(name, json.dumps(values, indent=1).encode())

    def read_json(self, name: str) -> Any:
        """Return a JSON file's values; None if it is missing or torn."""
        place = self._in(name)
        try:
            return json.loads(place.read_bytes()) if place.exists() else None
        except ValueError:
            return None

    def sha256(self, name: str) -> str | None:
        """Return a file's checksum, or None if it is missing."""
        place, digest = self._in(name), hashlib.sha256()
        if not place.exists():
            return None
        with reaching(place), place.system.open_input_stream(place.path) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _in(self, name: str) -> Location:
        return self.root / name if name else self.root
