"""Sources and sets behind URIs: those of a local folder, from an S3 server in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from raysl.cluster.connect import ClusterInfo
from raysl.data import indexing
from raysl.data.config import DataConfig
from raysl.data.crew import RayCrew
from raysl.data.indexing import index_training
from raysl.data.location import REQUESTS, Location, concurrently, refused
from raysl.data.prepare.find import find_splits
from raysl.data.prepare.pixels import Treatment
from raysl.data.prepare.prepare import Request, prepare
from raysl.data.sample import sample_pictures
from raysl.data.sources import load_split
from raysl.errors import InputError

from .crews import Crew, assert_same, both, feed
from .made import Encode, WriteFolder

Uri = Callable[[Path], str]
SECRET = "not-to-be-shown"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server; returns what a URI says of it."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    query = f"?endpoint_override=http%3A%2F%2F{host}%3A{port}&scheme=http&allow_bucket_creation=true"
    system, _ = fs.FileSystem.from_uri(f"s3://key:{SECRET}@bucket{query}")
    system.create_dir("bucket")
    yield query
    server.stop()


@pytest.fixture(params=["file", "s3"])
def uri(request: pytest.FixtureRequest, endpoint: str) -> Uri:
    """Return a function that gives the URI of a folder or file, copied to the server if need be."""

    def give(path: Path) -> str:
        return path.as_uri() if request.param == "file" else sent(path, endpoint)

    return give


def sent(path: Path, endpoint: str) -> str:
    """Copy a folder or file to the server and return its URI."""
    uri = f"s3://key:{SECRET}@bucket{path}{endpoint}"
    system, place = fs.FileSystem.from_uri(uri)
    if path.is_dir():
        fs.copy_files(str(path), place, fs.LocalFileSystem(), system)
    else:
        fs.copy_files(str(path.parent), str(Path(place).parent), fs.LocalFileSystem(), system)
    return uri


def uncompressed(config: DataConfig) -> int:
    """Write Parquet as `raysl data prepare` does; return its bytes."""
    files = list(Path(config.source).iterdir())
    for file in files:
        table = pq.read_table(file)
        pq.write_table(table, file, row_group_size=7, compression="none", use_dictionary=False)
    return sum(file.stat().st_size for file in files)


def test_parquet_is_the_same_source(source: DataConfig, uri: Uri) -> None:
    there = source.model_copy(update={"source": uri(Path(source.source))})
    here, _ = both(source)
    memory, encoded = both(there)
    assert np.array_equal(here.images, memory.images)
    assert np.array_equal(here.ids, memory.ids)
    assert [p.id for p in sample_pictures(there, 5)] == [p.id for p in sample_pictures(source, 5)]
    assert_same(feed(here).epoch(0), feed(encoded).epoch(0))


def test_so_is_a_folder_of_images(
    tmp_path: Path, encoded: Encode, write_folder: WriteFolder, uri: Uri
) -> None:
    names = [f"{split}/{'ab'[i % 2]}/{i} ü.png" for split in ("train", "test") for i in range(12)]
    write_folder(
        tmp_path, dict(zip(names, encoded(24), strict=True)) | {".left/over.png": b"", "note.txt": b""}
    )
    here, there = (DataConfig(source=place) for place in (str(tmp_path), uri(tmp_path)))
    assert np.array_equal(both(here)[0].images, both(there)[0].images)
    assert both(there)[1].class_names == ("a", "b")
    assert np.array_equal(load_split(there, "test").ids, load_split(here, "test").ids)
    assert {p.id for p in sample_pictures(there, 5)} == {p.id for p in sample_pictures(here, 5)}


def test_so_is_one_file_with_the_test_split_beside_it(source: DataConfig, uri: Uri) -> None:
    file = Path(source.source) / "train-1.parquet"
    file.rename(file.with_name("digits-train.parquet"))
    file.with_name("train-2.parquet").rename(file.with_name("digits-test.parquet"))
    there = DataConfig(source=uri(file.with_name("digits-train.parquet")))
    assert len(both(there)[0]) == 27
    assert len(load_split(there, "test")) == 30


def test_larger_sets_are_read_by_offset(source: DataConfig, uri: Uri) -> None:
    total = uncompressed(source)
    there = source.model_copy(update={"source": uri(Path(source.source))})
    memory, encoded = both(there, Crew(room=total))
    assert all(isinstance(block, Location) for block in encoded.blocks)
    assert_same(feed(memory).epoch(0), feed(encoded).epoch(0))


def test_processes_of_ray_read_for_themselves(
    source: DataConfig, endpoint: str, monkeypatch: pytest.MonkeyPatch, ray_cluster: ClusterInfo
) -> None:
    uncompressed(source)
    there = source.model_copy(update={"source": sent(Path(source.source), endpoint)})
    monkeypatch.setattr(indexing, "KEPT_SHARE", 0)
    here, _ = both(source)
    encoded, _ = index_training(there, RayCrew())
    assert np.array_equal(encoded.rows(np.arange(len(encoded))).images, here.images)


def test_a_set_is_prepared_from_a_bucket_into_it(
    source: DataConfig, endpoint: str, ray_cluster: ClusterInfo
) -> None:
    given, out = sent(Path(source.source), endpoint), f"s3://key:{SECRET}@bucket/made{endpoint}"
    request = Request(Treatment(), shard_rows=16)
    made = prepare(given, find_splits(given), out, request)
    assert (made.made, made.place) == (6, "s3://bucket/made")
    assert np.array_equal(both(DataConfig(source=out))[0].ids, both(source)[0].ids)
    again = prepare(given, find_splits(given), out, request)
    assert again.made == 0
    assert SECRET not in str(again)


def test_what_is_not_there_is_said_in_one_line(endpoint: str, tmp_path: Path, encoded: Encode) -> None:
    release = tmp_path / "set"
    (release / "val").mkdir(parents=True)
    (release / "val/val_annotations.txt").write_text("x")
    cases = {
        f"s3://key:{SECRET}@nowhere/x{endpoint}": r"s3://nowhere/x does not exist",
        f"s3://key:{SECRET}@bucket/nothing{endpoint}": r"s3://bucket/nothing does not exist",
        sent(release, endpoint): r"s3://bucket.*/set: a release as it is published is read on this machine",
        f"s3://key:{SECRET}@bucket/x?nonsense=1": r"s3://bucket/x: Unexpected query parameter",
        "nosuch://bucket/x": r"nosuch://bucket/x: Unrecognized filesystem",
        (tmp_path / "none").as_uri(): r"none does not exist",
    }
    for place, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            find_splits(place)
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"data.source: s3://bucket/nothing does not exist"):
        load_split(DataConfig(source=f"s3://bucket/nothing{endpoint}"), "train")
    with pytest.raises(InputError, match=r"s3://bucket/nothing is not there any more"):
        Location.of(f"s3://bucket/nothing{endpoint}").read_bytes()


def test_no_permission_is_said_in_one_line() -> None:
    class Refuse(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"s3://key:{SECRET}@mine/x?scheme=http&endpoint_override=127.0.0.1%3A{server.server_port}"
    with pytest.raises(InputError, match=r"^s3://mine/x: access is denied: credentials come from") as caught:
        find_splits(place)
    assert "\n" not in str(caught.value)
    server.shutdown()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7,\nx", "not reached"),
        (
            "AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation (Request ID: 7)",
            "there is no such bucket",
        ),
        ("google::cloud::Status(PERMISSION_DENIED: no)", "access is denied"),
    ],
)
def test_known_errors_are_named(error: str, message: str) -> None:
    named = refused("s3://a/b", OSError(error))
    assert str(named).startswith(f"s3://a/b: {message}")
    assert "\n" not in str(named)
    assert "Request" not in str(named)
    assert refused("s3://a/b", OSError("Couldn't deserialize thrift")) is None


def test_requests_run_beside_each_other_in_order() -> None:
    lock, running, most, begun = threading.Lock(), [0], [0], list[int]()

    def wait(item: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return item

    assert list(concurrently(wait, range(64), remote=True)) == list(range(64))
    assert 4 <= most[0] <= REQUESTS
    assert next(concurrently(begun.append, range(1000), remote=True)) is None
    assert len(begun) < 100, "what nobody takes is not asked for"


def test_places(tmp_path: Path) -> None:
    folder = Location.of(tmp_path.as_uri() + "/")
    assert str(folder / "a b.JPG") == f"{tmp_path}/a b.JPG"
    assert (folder / "a b.JPG").suffix == ".jpg"
    assert (folder / "a/b").parent.parent == folder
    assert (folder / "a/b").below(folder) == "a/b"
    assert Location.of("train.parquet").parent == Location.of(".")
    assert (folder / "a").is_within(folder)
    assert not Location.of(f"{tmp_path}-beside").is_within(folder)
