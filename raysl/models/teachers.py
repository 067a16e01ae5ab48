"""Frozen teachers: networks that are not trained, and not stored with what is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from raysl.config.base import Config
from raysl.errors import InputError
from raysl.models.backbones import BackboneConfig, build_backbone
from raysl.models.representations import Representation, RepresentationOptions, of_augmented, represent

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, on the scale 0-1."""

# What every CLIP model was trained with (arXiv 2103.00020; its repository's `transform`).
_CLIP: Statistics = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_CLIP_SIZE = 224
_FIELDS = {
    "clip": {"model", "pretrained"},
    "file": {"path"},
    "backbone": {"path", "backbone"},
    "representation": {"representation", "options"},
}


class TeacherConfig(Config):
    """A frozen network that maps images to vectors."""

    name: Literal["clip", "file", "backbone", "representation"] = "clip"
    """`clip`: an image encoder of open_clip (extra `clip`), raw projected features. `file`: any torch module,
    from `path`. `backbone`: a backbone as raysl trains it, with weights from `path`. `representation`: a
    fixed representation of the image, which needs no weights."""

    model: str = "ViT-B-16"
    """Of `clip`: open_clip's name of the architecture."""

    pretrained: str = "laion400m_e32"
    """Of `clip`: open_clip's tag of the weights, or a local file of them."""

    path: str | None = None
    """Of `file`: a program saved by torch.export (`teacher.pt2`), a TorchScript file (any other suffix), or
    `teacher.py:function`, called without arguments for a torch.nn.Module; all on the path of every worker. Of
    `backbone`: a .safetensors file of weights, or a checkpoint folder of a raysl run."""

    backbone: BackboneConfig = BackboneConfig()
    """Of `backbone`: the architecture that the weights belong to."""

    representation: Representation = "hog"
    """Of `representation`: which one; not an augmented one."""

    options: RepresentationOptions = RepresentationOptions()
    """Of `representation`: its sizes."""

    size: int | None = Field(default=None, ge=1, le=4096)
    """Side in pixels that images are resized to, bilinearly; null: 224 for `clip`, else as they are."""

    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None
    """Mean of each channel that the teacher was trained with, on the scale 0-1; null: CLIP's own for `clip`,
    else that of the student's images."""

    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Standard deviation of each channel that the teacher was trained with; null: likewise."""

    @model_validator(mode="after")
    def _fields_belong_together(self) -> Self:
        kinds = sorted(set().union(*_FIELDS.values()) - _FIELDS[self.name])
        for field in kinds:
            if getattr(self, field) != TeacherConfig.model_fields[field].default:
                raise ValueError(f"a teacher of name {self.name!r} has no {field}; leave it out")
        if "path" in _FIELDS[self.name] and self.path is None:
            raise ValueError(f"a teacher of name {self.name!r} needs a path")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both, or neither")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}: give as many of each"
            )
        if of_augmented(self.representation):
            raise ValueError(f"{self.representation} is of an augmented image, which a teacher does not see")
        return self


class FrozenTeacher(nn.Module):
    """Shows a frozen network the images it was trained for.

    The network is moved and cast with this module, but its parameters and buffers are not part of it: no
    optimizer sees them and no checkpoint holds them. It is in evaluation mode, whatever mode this is in.

    Args:
        network: maps images to vectors or maps.
        shown: how the images that `forward` takes are normalised.
        wanted: how the network wants them; None takes them as they are.
        size: side that images are resized to; None leaves them.
        channels: grey images are repeated to so many channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        shown: Statistics | None = None,
        wanted: Statistics | None = None,
        size: int | None = None,
        channels: int = 1,
    ) -> None:
        super().__init__()
        # A tuple hides the network from module registration.
        self._network = (network,)
        for parameter in network.parameters():  # scripted modules have no requires_grad_
            parameter.requires_grad_(False)
        self.size, self.channels = size, channels
        scale, shift = _renormalise(shown or ((0.0,), (1.0,)), wanted)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        return self._network[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast the hidden network too."""
        self.network._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs, flattened to `(N, F)`, for normalised images `(N, C, H, W)`.

        In float32 or better, whatever the network's precision.

        Raises:
            InputError: it returns something else than one tensor with a row for each image.
        """
        shown = images * self.scale + self.shift
        if shown.shape[1] == 1:
            shown = shown.expand(-1, self.channels, -1, -1)
        if self.size is not None and shown.shape[-2:] != (self.size, self.size):
            shown = F.interpolate(shown, size=(self.size, self.size), mode="bilinear", align_corners=False)
        output = self.network(shown)
        if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(images):
            told = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise InputError(
                f"method.teacher: the teacher returns {told} for {len(images)} images; return one tensor "
                "(images, features)"
            )
        return output.flatten(1).to(torch.promote_types(output.dtype, torch.float32))


def build_teacher(
    config: TeacherConfig, image_channels: int, shown: Statistics | None, *, as_shown: bool = False
) -> FrozenTeacher:
    """Build a teacher and load its weights.

    Args:
        config: which one.
        image_channels: channels of the images it will be given.
        shown: how they are normalised; None where they are not.
        as_shown: give it the images normalised as they come, whatever it was trained with.

    Raises:
        InputError: it cannot be loaded.
    """
    wanted: Statistics | None = None
    if config.mean is not None and config.std is not None:
        wanted = (config.mean, config.std)
    elif config.name == "clip":
        wanted = _CLIP
    size = config.size or (_CLIP_SIZE if config.name == "clip" else None)
    network = _load(config, image_channels)
    channels = 3 if config.name == "clip" else 1
    return FrozenTeacher(network, shown, None if as_shown else wanted, size, channels)


def _renormalise(shown: Statistics, wanted: Statistics | None) -> tuple[Tensor, Tensor]:
    """Return what images are multiplied by and what is then added, each `(1, C, 1, 1)`."""
    mean, std = (torch.tensor(list(values)).view(1, -1, 1, 1) for values in shown)
    if wanted is None:
        return torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    wanted_mean, wanted_std = (torch.tensor(list(values)).view(1, -1, 1, 1) for values in wanted)
    if mean.shape[1] != wanted_mean.shape[1] and 1 not in (mean.shape[1], wanted_mean.shape[1]):
        raise InputError(
            f"method.teacher.mean: {wanted_mean.shape[1]} values for images of {mean.shape[1]} channels; "
            "give one for each channel"
        )
    return std / wanted_std, (mean - wanted_mean) / wanted_std


class _Representation(nn.Module):
    def __init__(self, name: Representation, options: RepresentationOptions) -> None:
        super().__init__()
        self.name, self.options = name, options

    def forward(self, images: Tensor) -> Tensor:
        return represent(self.name, images, self.options)


def _load(config: TeacherConfig, image_channels: int) -> nn.Module:
    """Return the network in evaluation mode."""
    if config.name == "clip":
        return _clip(config)
    if config.name == "representation":
        return _Representation(config.representation, config.options)
    path = config.path or ""
    if config.name == "backbone":
        return _backbone(config.backbone, Path(path), image_channels)
    script, colon, function = path.rpartition(":")
    try:
        if colon and script.endswith(".py"):
            return _made_by(Path(script), function).eval()
        if not Path(path).is_file():
            raise FileNotFoundError("no such file")
        if path.endswith(".pt2"):
            # An exported program is in the mode it was exported in.
            exported: nn.Module = torch.export.load(path).module()
            return exported
        scripted: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        return scripted.eval()
    except InputError:
        raise
    except Exception as error:
        raise _not_loaded(f"method.teacher.path: {path}", error) from error


def _made_by(script: Path, function: str) -> nn.Module:
    """Return what a function of a file makes."""
    if not script.is_file():
        raise FileNotFoundError("no such file")
    spec = importlib.util.spec_from_file_location(f"raysl_teacher_{script.stem}", script)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, function):
        raise InputError(f"method.teacher.path: {script} has no function {function!r}; name one that it has")
    made = getattr(module, function)()
    if not isinstance(made, nn.Module):
        raise InputError(
            f"method.teacher.path: {script}:{function}() returns {type(made).__name__}; "
            "return a torch.nn.Module"
        )
    return made


def _backbone(config: BackboneConfig, path: Path, image_channels: int) -> nn.Module:
    from safetensors.torch import load_file

    file = path / "model.safetensors" if path.is_dir() else path
    backbone = build_backbone(config, image_channels)
    try:
        tensors = load_file(file)
        # A checkpoint of a run holds the whole method.
        mine = {
            name.removeprefix("backbone."): tensor
            for name, tensor in tensors.items()
            if name.startswith("backbone.")
        }
        backbone.load_state_dict(mine or tensors)
    except Exception as error:
        raise _not_loaded(f"method.teacher.path: {file} as a {config.name}", error) from error
    return backbone.eval()


def _clip(config: TeacherConfig) -> nn.Module:
    try:
        import open_clip
    except ImportError:
        raise InputError(
            "method.teacher.name: clip needs open_clip, which is not installed; "
            "run: pip install 'raysl[clip]'"
        ) from None
    try:
        model: Any = open_clip.create_model(config.model, pretrained=config.pretrained, device="cpu")
    except Exception as error:
        what = f"method.teacher: open_clip's {config.model}, {config.pretrained}"
        hint = "; without a network, name a local file of weights as method.teacher.pretrained"
        raise _not_loaded(what, error, hint) from error
    # Its image half; what it returns is projected and not normalised.
    visual: nn.Module = model.visual
    return visual.eval()


def _not_loaded(what: str, error: Exception, hint: str = "") -> InputError:
    told = " ".join(str(error).split())
    return InputError(f"{what}: cannot be loaded: {type(error).__name__}: {told[:200]}{hint}")
