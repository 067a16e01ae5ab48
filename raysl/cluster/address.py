"""Which Ray is meant: a private one, or the one at an address the user named.

Ray by itself joins any Ray it finds on the machine; raysl joins none that was not asked for.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from raysl.errors import InputError

ADDRESS_VARIABLE = "RAY_ADDRESS"
EXPECTED = "expected auto, local or HOST:PORT, such as 10.0.0.1:6379"

# HTTP/2's client preface and an empty SETTINGS frame (RFC 9113, 3.4 and 6.5): what any gRPC server answers.
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP2_SETTINGS = 4


@dataclass(frozen=True)
class Target:
    """The Ray a command will use.

    Args:
        address: `HOST:PORT` to join; None for a private Ray started here.
        asked_by: who asked for the address: `RAY_ADDRESS` or `--cluster`; empty for a private Ray.
    """

    address: str | None
    asked_by: str = ""


def resolve(where: str, env: Mapping[str, str] | None = None) -> Target:
    """Return the Ray that `auto`, `local` or an address means; nothing is started or contacted.

    `auto` is the Ray that RAY_ADDRESS names (Ray's job submission sets it too), or else a private one.

    Args:
        where: `auto`, `local` or `HOST:PORT`.
        env: environment variables; default `os.environ`.

    Raises:
        InputError: not such an address.
    """
    env = os.environ if env is None else env
    if where != "auto":
        return _target(where, "--cluster")
    return _target(env.get(ADDRESS_VARIABLE) or "local", ADDRESS_VARIABLE)


def _target(where: str, asked_by: str) -> Target:
    if where == "local":
        return Target(None)
    if where.startswith("ray://"):
        raise InputError(
            f"{asked_by}: {where} is a Ray Client, which Ray Train and Tune do not work through; "
            "give the cluster's HOST:PORT from one of its nodes, or send the command with `ray job submit`"
        )
    if where.startswith(("http://", "https://")):
        raise InputError(
            f"{asked_by}: {where} is a dashboard, which takes jobs and not drivers; "
            "send the command with `ray job submit`, or give local or HOST:PORT"
        )
    _split(where, asked_by)
    return Target(where, asked_by)


def _split(address: str, asked_by: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+):(\d{1,5})", address)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise InputError(f"{asked_by}: {address!r} is no address of a Ray; {EXPECTED}")
    return match[1].strip("[]"), int(match[2])


def check_alive(target: Target, timeout_s: float) -> None:
    """Return if a gRPC server answers at the target's address.

    Ray itself takes 80 seconds to find a dead address dead, and then ends the process.

    Args:
        target: a Ray to join.
        timeout_s: seconds to wait for the connection, and again for its answer.

    Raises:
        InputError: nothing answers there, or something that is no Ray.
    """
    if target.address is None:
        return
    host, port = _split(target.address, target.asked_by)
    advice = "check the address with `ray status` on its head node, or use --cluster local"
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return  # the greeting is encrypted; Ray checks the rest
            connection.sendall(HTTP2_HELLO)
            answer = connection.recv(9)
    except OSError as error:
        why = error.strerror or str(error) or "no answer"
        raise InputError(
            f"{target.asked_by}: no Ray answers at {target.address} ({why}); {advice}"
        ) from error
    if len(answer) < 4 or answer[3] != HTTP2_SETTINGS:
        raise InputError(f"{target.asked_by}: what answers at {target.address} is no Ray; {advice}")
