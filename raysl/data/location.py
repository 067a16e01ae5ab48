"""Files and folders: of this machine, or of a file system that pyarrow opens by URI (s3://, gs://)."""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from raysl.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

REQUESTS = 16
"""At a time, of one process: an answer takes some ten milliseconds, however small it is."""
_HANDLES = 4096
_ADVICE = (
    (r"NO_SUCH_BUCKET|bucket .*not found", "there is no such bucket"),
    (r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|PERMISSION_DENIED|UNAUTHENTICATED|"
     r"UNRECOGNIZED_CLIENT|HTTP status 40[13]",
     "access is denied: credentials come from the environment of each node (docs/DATA.md, URIs)"),
    (r"NETWORK_CONNECTION|curlCode|SLOW_DOWN|UNAVAILABLE|REQUEST_TIMEOUT|Retry policy|HTTP status 5",
     "not reached: check the network, and region and endpoint_override in the URI"),
    (r"PERMANENT_REDIRECT|HTTP status 301", "the bucket is in another region: put ?region= into the URI"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder; small, and the same for every process that is sent it.

    Attributes:
        path: on this machine, or within the file system of `uri`, where it begins with the bucket.
        uri: what opens the file system; empty for this machine. It may hold credentials and is never shown.
        size: bytes of a file, where a listing told.
    """

    path: str
    uri: str = field(default="", repr=False)
    size: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, place: str | Path) -> Location:
        """Return the location of a path or URI; `file://` is this machine.

        Raises:
            InputError: a URI that pyarrow does not know, or whose bucket cannot be reached.
        """
        text = str(place)
        if "://" not in text:
            return cls(str(Path(text).expanduser()))
        system, path = _opened(text)
        here = isinstance(system, fs.LocalFileSystem)
        return cls(path.rstrip("/") or "/", "" if here else text)

    def __reduce__(self) -> tuple[type[Location], tuple[str, str, int | None]]:
        # Half the time of what dataclasses do: a task may be sent many.
        return Location, (self.path, self.uri, self.size)

    def __str__(self) -> str:
        return f"{self.uri.partition('://')[0]}://{self.path}" if self.uri else self.path

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.path.rstrip('/')}/{name}", self.uri)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on, in small letters."""
        return os.path.splitext(self.path)[1].lower()

    @property
    def parent(self) -> Location:
        """The folder that it is in."""
        folder, slash, _ = self.path.rpartition("/")
        return Location(folder or slash or ".", self.uri)

    @property
    def system(self) -> fs.FileSystem:
        """The file system, opened once in each process."""
        return _opened(self.uri)[0] if self.uri else fs.LocalFileSystem()

    def absolute(self) -> Location:
        """Return it so that it is the same from any working directory."""
        return self if self.uri else Location(str(Path(self.path).absolute()), size=self.size)

    def below(self, root: Location) -> str:
        """Return the path within a folder that it is in."""
        return self.path[len(root.path.rstrip("/")) + 1 :]

    def is_within(self, root: Location) -> bool:
        """Return whether it is a folder, or lies in it."""
        own, other = self.absolute(), root.absolute()
        same = own.uri.partition("://")[0] == other.uri.partition("://")[0]
        return same and f"{own.path}/".startswith(f"{other.path.rstrip('/')}/")

    def is_file(self) -> bool:
        """Return whether there is such a file."""
        return self._info().type == fs.FileType.File if self.uri else os.path.isfile(self.path)

    def exists(self) -> bool:
        """Return whether there is such a file or folder."""
        return self._info().type != fs.FileType.NotFound if self.uri else os.path.exists(self.path)

    def sized(self) -> Location:
        """Return a file with its size."""
        return replace(self, size=self._info().size if self.uri else os.path.getsize(self.path))

    def _info(self) -> fs.FileInfo:
        with reaching(self):
            return self.system.get_file_info(self.path)

    def files(self, *, recursive: bool = True) -> list[Location]:
        """Return the files of a folder with their sizes, in the order of the parts of their paths.

        Raises:
            InputError: it cannot be listed.
        """
        try:
            found = list(self._listed(recursive))
        except PermissionError as error:
            raise InputError(f"{error.filename} cannot be read ({error.strerror}): allow it") from None
        return sorted(found, key=lambda file: file.path.split("/"))

    def _listed(self, recursive: bool) -> Iterator[Location]:
        if not self.uri:
            return _of_folder(self.path, recursive)
        with reaching(self):
            found = self.system.get_file_info(fs.FileSelector(self.path, recursive=recursive))
        return (Location(info.path, self.uri, info.size) for info in found if info.is_file)

    def read_bytes(self) -> bytes:
        """Return what is in a file.

        Raises:
            OSError: a file of this machine cannot be read.
            InputError: another one.
        """
        if not self.uri:
            with open(self.path, "rb") as file:
                return file.read()
        with reaching(self), self.system.open_input_file(self.path) as remote:
            return bytes(remote.read())

    def read_range(self, start: int, length: int) -> bytes:
        """Return a part of a file; raises as `read_bytes`."""
        if not self.uri:
            with open(self.path, "rb") as file:
                file.seek(start)
                return file.read(length)
        with reaching(self):
            return bytes(_handle(self).read_at(length, start))


def concurrently(function: Callable[[Item], Result], items: Iterable[Item], remote: bool) -> Iterator[Result]:
    """Yield a function's results in order; where it waits for another machine, those of several threads."""
    if not remote:
        yield from map(function, items)
        return
    pool, ahead = ThreadPoolExecutor(REQUESTS), deque[Future[Result]]()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= 2 * REQUESTS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_all(files: Sequence[Location]) -> Iterator[bytes]:
    """Yield what is in each of some files of one file system; raises as `Location.read_bytes`."""
    return concurrently(Location.read_bytes, files, bool(files and files[0].uri))


@contextmanager
def reaching(place: Location) -> Iterator[None]:
    """Say in one line what is wrong with another machine; errors of this one are left as they are."""
    try:
        yield
    except OSError as error:
        if not place.uri:
            raise
        raise refused(place, error) or InputError(f"{place}: {_line(error)}") from error


def refused(place: Location | str, error: Exception) -> InputError | None:
    """Return what an error of another machine means; None where it is none of those that are known."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{place} is not there any more: run the same command again")
    line = _line(error)
    advice = next((advice for words, advice in _ADVICE if re.search(words, line, re.IGNORECASE)), None)
    return None if advice is None else InputError(f"{place}: {advice} ({line})")


def _line(error: Exception) -> str:
    """Return an error in one line, without what is only for those who keep the server."""
    text = " ".join(str(error).split())
    return re.sub(r" \(Request ID:[^)]*\)| No response body\.", "", text)


def _of_folder(folder: str, recursive: bool) -> Iterator[Location]:
    """Yield the files of a folder of this machine; links to folders are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if recursive:
                    yield from _of_folder(entry.path, recursive)
            elif entry.is_file():
                yield Location(entry.path, size=entry.stat().st_size)


@functools.lru_cache(maxsize=64)
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    shown = re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])
    try:
        system, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, ValueError, ImportError) as error:
        raise InputError(
            f"{shown}: {_line(error).replace(uri, shown)}; give a folder, or a URI such as s3://bucket/folder"
        ) from None
    except OSError as error:
        raise refused(shown, error) or InputError(f"{shown}: {_line(error)}") from error
    return system, str(path)


@functools.lru_cache(maxsize=_HANDLES)
def _handle(file: Location) -> pa.NativeFile:
    """Open a file to read parts of it: that asks for its size, which once is enough."""
    return file.system.open_input_file(file.path)
