from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raysl.cluster.address import Target, check_alive, resolve
from raysl.errors import InputError


def test_auto_joins_only_what_the_environment_names() -> None:
    assert resolve("auto", {}) == Target(None)
    assert resolve("auto", {"RAY_ADDRESS": ""}) == Target(None)
    assert resolve("auto", {"RAY_ADDRESS": "local"}) == Target(None)
    assert resolve("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}) == Target("10.0.0.1:6379", "RAY_ADDRESS")


def test_local_and_an_address_do_not_look_at_the_environment() -> None:
    env = {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert resolve("local", env) == Target(None)
    assert resolve("[::1]:6380", env) == Target("[::1]:6380", "--cluster")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("10.0.0.1", "expected auto, local or HOST:PORT"),
        ("10.0.0.1:99999", "expected auto, local or HOST:PORT"),
        ("10.0.0.1:0", "expected auto, local or HOST:PORT"),
        ("head:6379/x", "expected auto, local or HOST:PORT"),
        ("", "expected auto, local or HOST:PORT"),
        ("ray://10.0.0.1:10001", "Ray Client"),
        ("http://127.0.0.1:8265", "ray job submit"),
    ],
)
def test_an_address_of_another_kind_is_refused_in_one_line(where: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        resolve(where, {})
    assert "\n" not in str(raised.value)


def test_ray_address_auto_names_no_ray() -> None:
    with pytest.raises(InputError, match="RAY_ADDRESS: 'auto'"):
        resolve("auto", {"RAY_ADDRESS": "auto"})


@contextmanager
def listening(reply: bytes | None) -> Iterator[int]:
    """A port that answers everyone with `reply`, or never."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                if reply is None:
                    done.wait(10)
                else:
                    connection.sendall(reply)

        done = threading.Event()
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join(timeout=5)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.timeout(20)  # Ray itself takes 80 s
def test_a_dead_address_is_found_dead_at_once() -> None:
    with pytest.raises(InputError, match=r"no Ray answers at 127\.0\.0\.1:\d+ \(Connection refused\)"):
        check_alive(Target(f"127.0.0.1:{free_port()}", "--cluster"), timeout_s=2)


def test_a_silent_port_and_another_service_are_told_apart() -> None:
    with (
        listening(None) as port,
        pytest.raises(InputError, match=r"no Ray answers at .*timed out"),
    ):
        check_alive(Target(f"127.0.0.1:{port}", "--cluster"), timeout_s=0.3)
    with (
        listening(b"HTTP/1.1 505 Version Not Supported\r\n\r\n") as port,
        pytest.raises(InputError, match=r"RAY_ADDRESS: what answers at .* is no Ray"),
    ):
        check_alive(Target(f"127.0.0.1:{port}", "RAY_ADDRESS"), timeout_s=2)


def test_an_unknown_host_is_one_line() -> None:
    with pytest.raises(InputError) as raised:
        check_alive(Target("no-such-host.invalid:6379", "--cluster"), timeout_s=2)
    assert "no-such-host.invalid:6379" in str(raised.value)
    assert "\n" not in str(raised.value)
