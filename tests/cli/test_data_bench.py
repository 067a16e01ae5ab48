"""`raysl data` and `raysl data bench` on the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Commands


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads do what Ray's tasks would: to start a Ray takes seconds."""

    @contextlib.contextmanager
    def connect(where: str, *, dashboard: bool) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(describe=lambda: f"Ray: {where}")

    monkeypatch.setattr("raysl.api.data.connect", connect)


def test_bench_prints_rates_the_bottleneck_and_cores(raysl: Commands, without_ray: None) -> None:
    ended = raysl("data", "bench", "digits", "--seconds", "0.02", "--gpu-rate", "1e9")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Ray: auto\ndigits as digits/simclr: ")
    assert "of a core's time" in ended.out
    assert "CPU cores for a GPU that takes 1,000,000,000 images/s:" in ended.out


def test_bench_as_json(raysl: Commands, without_ray: None) -> None:
    ended = raysl("data", "bench", "digits", "--recipe", "digits/w_mse", "--seconds", "0.02", "--json")
    assert ended.json["recipe"] == "digits/w_mse"
    assert ended.json["feeds"][0]["images_per_s"] > 0
    assert ended.err == "Ray: auto\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("digits", "--seconds", "0"), "--seconds 0: expected a number above 0"),
        (("digits", "--gpu-rate", "nan"), "--gpu-rate nan: expected a number above 0"),
        (("recipe=1",), "takes one source of images, not 0"),
        (("nowhere",), "data.source: nowhere does not exist"),
    ],
)
def test_mistakes_are_told_in_one_line(raysl: Commands, words: tuple[str, ...], told: str) -> None:
    ended = raysl("data", "bench", *words)
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("name", ["list", "prepare", "bench", "show"])
def test_every_subcommand_explains_itself(raysl: Commands, name: str) -> None:
    assert name in raysl("data", "--help").out
    ended = raysl("data", name, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"usage: raysl data {name}")
