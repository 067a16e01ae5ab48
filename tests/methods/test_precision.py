"""Every method under bf16 autocast: the loss within its own tolerance, the gradient in the same direction."""

from __future__ import annotations

import pytest
import torch

from raysl import methods
from raysl.methods.base import MethodConfig
from raysl.verify.precision import LEAST_COSINE, compare_precisions
from raysl.verify.sample import sample_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("method", methods.method_names())
def test_bf16_stays_within_the_stated_tolerance(method: str) -> None:
    torch.set_num_threads(1)
    config = sample_config(method)
    found = compare_precisions(config, CPU)
    print(f"\n{method}: loss {found.loss:.1e} of {found.tolerance:g}, gradient cosine {found.cosine:.4f}")
    assert found.loss <= config.method.bf16_tolerance
    assert found.cosine >= LEAST_COSINE
    assert found.loss > 0.0, "bf16 was not used"


def test_a_tolerance_that_does_not_hold_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MethodConfig, "bf16_tolerance", 1e-9)
    assert not compare_precisions(sample_config("simclr"), CPU).passed
