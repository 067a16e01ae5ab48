"""Frozen teachers: what they see, what they are loaded from, and that they are not stored or trained."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from raysl.errors import InputError
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.representations import represent
from raysl.models.teachers import FrozenTeacher, TeacherConfig, build_teacher

PYTHON = """
import torch

def make():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 5))

def other():
    return 3
"""


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 5)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.layer(x.flatten(1)))
        return out


def _images(channels: int = 1, size: int = 8) -> Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def _config(**values: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(values)


def test_a_function_of_a_file_makes_a_teacher(tmp_path: Path) -> None:
    script = tmp_path / "teacher.py"
    script.write_text(PYTHON)
    teacher = build_teacher(_config(name="file", path=f"{script}:make"), 1, None)
    teacher.train()
    features = teacher(_images())
    assert features.shape == (4, 5)
    # In evaluation mode a row depends on its own image only.
    torch.testing.assert_close(teacher(_images()[:2]), features[:2])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_file_makes_a_teacher(tmp_path: Path) -> None:
    net = _Net().eval()
    torch.jit.trace(net, _images()).save(str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    teacher = build_teacher(_config(name="file", path=str(tmp_path / "net.pt")), 1, None)
    torch.testing.assert_close(teacher(_images()), net(_images()))
    assert teacher.double()(_images().double()).dtype == torch.float64


def test_an_exported_program_makes_a_teacher(tmp_path: Path) -> None:
    net = _Net().eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (_images(),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    teacher = build_teacher(_config(name="file", path=str(tmp_path / "net.pt2")), 1, None)
    teacher.train()
    torch.testing.assert_close(teacher(_images()[:3]), net(_images()[:3]))


@pytest.mark.parametrize("kind", ["weights", "checkpoint"])
def test_a_backbone_is_loaded_from_its_weights_or_a_runs_checkpoint(tmp_path: Path, kind: str) -> None:
    config = BackboneConfig(name="small_cnn", width=2)
    backbone = build_backbone(config, 1).eval()
    prefix, file = ("", "small.safetensors") if kind == "weights" else ("backbone.", "model.safetensors")
    tensors = {prefix + name: tensor for name, tensor in backbone.state_dict().items()}
    others = {} if kind == "weights" else {"projector.0.weight": torch.zeros(2)}
    save_file({**tensors, **others}, tmp_path / file)
    path = tmp_path / file if kind == "weights" else tmp_path
    teacher = build_teacher(_config(name="backbone", backbone=config, path=str(path)), 1, None)
    torch.testing.assert_close(teacher(_images()), backbone(_images()))


def test_a_representation_is_a_teacher() -> None:
    config = _config(name="representation", representation="hog", options={"hog_pool": 4})
    features = build_teacher(config, 1, None)(_images())
    assert torch.equal(features, represent("hog", _images(), config.options))


def _fake_open_clip(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    class Visual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[-2:] == (224, 224)
            return x.mean(dim=(2, 3)) * self.weight

    def create_model(name: str, pretrained: str, device: str) -> Any:
        asked.append((name, pretrained))
        if name == "absent":
            raise RuntimeError("Model config for absent not found;\navailable models: many")
        return types.SimpleNamespace(visual=Visual())

    module = types.ModuleType("open_clip")
    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_clip", module)
    return asked


@pytest.mark.parametrize("channels", [1, 3])
def test_clip_sees_its_own_normalisation_at_its_own_size(
    monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    asked = _fake_open_clip(monkeypatch)
    mean, std = (0.4,) * channels, (0.2,) * channels
    teacher = build_teacher(TeacherConfig(), channels, (mean, std))
    assert asked == [("ViT-B-16", "laion400m_e32")]
    clip_mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    clip_std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    raw = torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = (raw - 0.4) / 0.2
    expected = (raw.expand(-1, 3, -1, -1).mean(dim=(2, 3)) - clip_mean) / clip_std
    torch.testing.assert_close(teacher(shown), expected, rtol=1e-4, atol=1e-5)
    as_shown = build_teacher(TeacherConfig(), channels, (mean, std), as_shown=True)(shown)
    torch.testing.assert_close(as_shown, shown.expand(-1, 3, -1, -1).mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match=r"not installed; run: pip install 'raysl\[clip\]'$"):
        build_teacher(TeacherConfig(), 3, None)


def test_what_open_clip_refuses_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_open_clip(monkeypatch)
    with pytest.raises(
        InputError, match=r"open_clip's absent, laion400m_e32: cannot be loaded: .*; available"
    ):
        build_teacher(_config(model="absent"), 3, None)


def test_a_teachers_own_statistics_and_size_are_used() -> None:
    config = _config(name="representation", representation="pixels", mean=[0.5], std=[0.25], size=4)
    teacher = build_teacher(config, 1, ((0.1,), (0.2,)))
    raw = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate((raw - 0.5) / 0.25, size=(4, 4), mode="bilinear")
    torch.testing.assert_close(teacher((raw - 0.1) / 0.2), expected.flatten(1) / 32)


def test_nothing_of_a_teacher_is_stored_or_trained_but_it_moves_along() -> None:
    net = _Net()
    holder = nn.Sequential(FrozenTeacher(net, ((0.1,), (0.2,)), ((0.5,), (0.25,))))
    assert holder.state_dict() == {}
    assert list(holder.parameters()) == []
    assert not any(parameter.requires_grad for parameter in net.parameters())
    holder.double()
    assert net.layer.weight.dtype == torch.float64
    assert holder(_images().double()).dtype == torch.float64
    holder.to("meta")
    assert net.layer.weight.device.type == "meta"


def test_half_precision_features_are_given_back_in_float32() -> None:
    teacher = FrozenTeacher(nn.Flatten())
    assert teacher(_images().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "file"}, "needs a path"),
        ({"name": "clip", "path": "x.pt"}, "a teacher of name 'clip' has no path"),
        ({"name": "representation", "model": "RN50"}, "has no model"),
        ({"name": "representation", "representation": "augmented_hog"}, "of an augmented image"),
        ({"mean": [0.5]}, "mean and std belong together"),
        ({"mean": [0.5], "std": [0.5, 0.5]}, "mean has 1 values and std 2"),
    ],
)
def test_fields_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _config(**values)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.pt2", "absent.pt2: cannot be loaded: FileNotFoundError: no such file"),
        ("absent.py:make", "cannot be loaded: FileNotFoundError: no such file"),
        ("teacher.py:absent", "has no function 'absent'; name one that it has"),
        ("teacher.py:other", r"other\(\) returns int; return a torch.nn.Module"),
        ("text.pt", "text.pt: cannot be loaded: RuntimeError"),
    ],
)
def test_a_file_that_is_no_teacher_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("teacher.py").write_text(PYTHON)
    Path("text.pt").write_text("nothing")
    with pytest.raises(InputError, match=message) as caught:
        build_teacher(_config(name="file", path=path), 1, None)
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_told(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    config = _config(name="backbone", backbone={"name": "small_cnn"}, path=str(tmp_path / "w.safetensors"))
    with pytest.raises(InputError, match="as a small_cnn: cannot be loaded: RuntimeError"):
        build_teacher(config, 1, None)


def test_a_teacher_that_returns_no_rows_is_told() -> None:
    class Tuple(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(InputError, match="returns tuple for 4 images; return one tensor"):
        FrozenTeacher(Tuple())(_images())


def test_statistics_of_another_number_of_channels_are_told() -> None:
    config = _config(name="representation", mean=[0.5, 0.5], std=[0.5, 0.5])
    with pytest.raises(InputError, match="2 values for images of 3 channels"):
        build_teacher(config, 3, ((0.1,) * 3, (0.2,) * 3))
