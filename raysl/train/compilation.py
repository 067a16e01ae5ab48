"""torch.compile for the backbones of a method."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from raysl.errors import InputError
from raysl.models.backbones import Backbone


def compile_backbones(module: nn.Module) -> None:
    """Compile the network of every backbone in a module, teachers' too, at its first call.

    It is compiled in place: parameters, buffers and their names stay the same.
    """
    for part in module.modules():
        if isinstance(part, Backbone):
            part.network.compile()


@contextlib.contextmanager
def explained_compilation(compiles: bool) -> Iterator[None]:
    """Say in one line that the compiler failed, if it does.

    Raises:
        InputError: what it said, and how to do without.
    """
    if not compiles:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"train.compile: torch.compile failed ({said}); use train.compile=false") from error
