"""Memory layouts and compiled backbones: other roads to the same numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raysl.errors import InputError
from raysl.models.backbones import Backbone
from raysl.train.compilation import compile_backbones, explained_compilation
from raysl.train.optimizers import load_optimizer_tensors, optimizer_tensors
from raysl.train.session import Session
from tests.train.jobs import take_steps
from tests.train.made import config, digits
from tests.train.test_workers import largest_difference


def use_backend(monkeypatch: pytest.MonkeyPatch, backend: str | Callable[..., Any]) -> None:
    """Let modules be compiled by another backend than torch's own, which would take half a minute."""
    compiles = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiles(module, backend=backend))


def test_channels_last_takes_the_same_steps() -> None:
    plain = take_steps(config("train.precision=float64"), 3)
    last = take_steps(config("train.precision=float64", "train.channels_last=true"), 3)
    assert last.losses == pytest.approx(plain.losses, rel=1e-12)
    assert largest_difference(last.tensors, plain.tensors) < 1e-11


def test_channels_last_reaches_weights_views_and_the_optimizer_put_back() -> None:
    chosen = config("train.channels_last=true", "backbone.width=8")
    session = Session(chosen, digits(), torch.device("cpu"))
    seen: list[Tensor] = []
    session.method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    session.step(next(session.feed.epoch(0)), 0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    weight = next(p for p in session.method.parameters() if p.ndim == 4 and p.shape[1] == 8)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    other = Session(chosen, digits(), torch.device("cpu"))
    saved = {name: x.contiguous() for name, x in optimizer_tensors(session.optimizer, session.method).items()}
    load_optimizer_tensors(other.optimizer, other.method, saved)
    again = next(p for p in other.method.parameters() if p.ndim == 4 and p.shape[1] == 8)
    assert other.optimizer.state[again]["momentum_buffer"].stride() == weight.stride()


@pytest.mark.parametrize("more", [[], ["train.accumulation=4"]], ids=["whole", "slices"])
def test_a_compiled_backbone_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    use_backend(monkeypatch, "aot_eager")
    plain = take_steps(config("train.precision=float64", *more), 2)
    compiled = take_steps(config("train.precision=float64", "train.compile=true", *more), 2)
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-12)
    assert largest_difference(compiled.tensors, plain.tensors) < 1e-10


def test_every_backbone_is_compiled_and_keeps_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    session = Session(config("train.compile=true"), digits(), torch.device("cpu"))
    assert [type(module).__name__ for module in compiled] == ["SmallCNN", "SmallCNN"]
    assert compiled[0] is session.method.backbone.network


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on the CPU needs g++")
def test_torchs_own_compiler_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    plain = Backbone(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), 3, 1)
    names = list(plain.state_dict())
    images = torch.randn(4, 1, 2, 3)
    expected = plain(images)
    compile_backbones(plain)
    torch.testing.assert_close(plain(images), expected)
    assert list(plain.state_dict()) == names


def test_a_compiler_that_fails_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such\ncompiler")

    use_backend(monkeypatch, broken)
    session = Session(config("train.compile=true"), digits(), torch.device("cpu"))
    with pytest.raises(InputError, match=r"torch\.compile failed \(.*\); use train\.compile=false") as caught:
        session.step(next(session.feed.epoch(0)), 0)
    assert "\n" not in str(caught.value)


def test_other_errors_pass_untouched() -> None:
    with pytest.raises(RuntimeError, match="mine"), explained_compilation(True):
        raise RuntimeError("mine")


def test_layout_and_compiler_leave_a_run_the_same_run() -> None:
    other = config("train.channels_last=true", "train.compile=true", "published=ours")
    assert other.identity() == config().identity()
    assert config("train.accumulation=2").identity() != config().identity()
