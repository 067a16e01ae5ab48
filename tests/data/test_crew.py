"""An image that kills the process which decodes it is found, named and left out like any broken one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysl.data import looking, tasks
from raysl.data.config import DataConfig
from raysl.data.crew import CrewDied, Function, Handle, _allows
from raysl.data.indexing import index_training
from raysl.data.sources import load_training
from raysl.errors import InputError

from .crews import Crew


class Fragile(Crew):
    """Dies of looking at some images.

    Args:
        ids: those.
    """

    def __init__(self, *ids: int) -> None:
        super().__init__()
        self.ids, self.dying = ids, set[Handle]()

    def submit(self, function: Function, sources: Sequence[Any], *args: Any) -> Handle:
        handle = super().submit(function, sources, *args)
        if function is tasks.look and set(self.ids) & set(tasks.identify(sources_of(sources), args[0])):
            self.dying.add(handle)
        return handle

    def result(self, handle: Handle) -> Any:
        if handle in self.dying:
            raise CrewDied("a process died")
        return super().result(handle)


def sources_of(handles: Sequence[Any]) -> list[Any]:
    return [handle if isinstance(handle, str) else handle.result() for handle in handles]


def test_an_image_that_kills_its_decoder_is_named_and_left_out(
    source: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_LOOK", 16)
    whole = load_training(source)[0]
    crew = Fragile(int(whole.ids[3]), int(whole.ids[40]))
    file = f"{Path(source.source)}/train-"
    with pytest.raises(InputError, match=rf"2 of 90 images .*: {file}\d.parquet row \d+ \(the process that"):
        index_training(source, crew)
    train, _ = index_training(source.model_copy(update={"max_bad": 0.05}), crew)
    assert set(whole.ids) - set(train.ids) >= set(crew.ids)
    assert len(crew.dying) == 2 * 4


@pytest.mark.parametrize(
    ("selector", "label", "allowed"),
    [
        ("cpu", "cpu", True),
        ("cpu", None, False),
        ("in(cpu, big)", "big", True),
        ("in(cpu, big)", "gpu", False),
        ("!gpu", "gpu", False),
        ("!gpu", None, True),
        ("!in(gpu,tpu)", "tpu", False),
    ],
)
def test_labels_are_understood_as_ray_does(selector: str, label: str | None, allowed: bool) -> None:
    assert _allows(selector, label) is allowed
