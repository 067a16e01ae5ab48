"""The first steps of each method's digits recipe.

`python -m tests.methods.curves [METHOD ...]` stores their losses anew. Do that only when a method or its
recipe is meant to train otherwise than before.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from raysl import methods
from raysl.config import load
from raysl.data.sources import load_training
from raysl.train.config import RunConfig
from raysl.train.session import TrainData
from raysl.verify.sample import take_steps

STORED = Path(__file__).parent / "data" / "curves.json"
STEPS = 20


def curve(method: str) -> list[float]:
    """Return the losses of the first steps.

    Steps multiply a difference ten-thousandfold, so nothing may differ: float64, and views that are the same
    bits on any machine, for only whole pixels move.
    """
    recipe = f"digits/{method}"
    count = load(RunConfig, [recipe]).views.count
    views = {"preset": "none", "count": count, "shift": {"pixels": 1}, "flip": {"p": 0.5}}
    config = load(RunConfig, [recipe, {"views": views}], ["train.precision=float64", "train.device=cpu"])
    torch.set_num_threads(1)
    data = TrainData(*load_training(config.data))
    return take_steps(config, data, torch.device("cpu"), STEPS).losses


if __name__ == "__main__":
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    anew = sys.argv[1:] or methods.method_names()
    curves = {
        name: curve(name) if name in anew else stored[name]
        for name in methods.method_names()
        if name in anew or name in stored
    }
    lines = (f' "{name}": {json.dumps(losses)}' for name, losses in curves.items())
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(curves)} curves of {STEPS} steps in {STORED}")
