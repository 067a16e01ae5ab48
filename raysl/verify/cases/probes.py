"""Linear probes on stored features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysl.evaluation.protocols.linear_cached import Options, accuracies, train_head
from raysl.verify.reference import Case, Compute, Values


def _linear_cached(case: Case, inputs: Values) -> Values:
    classes, features = inputs["W0"].shape
    head = nn.Linear(features, classes, dtype=inputs["W0"].dtype)
    head.load_state_dict({"weight": inputs["W0"], "bias": inputs["b0"]})
    options = Options(epochs=case.hyperparameters["epoch"])
    orders = inputs["perms"].long()
    train_head(head, inputs["x_train"].detach(), inputs["y_train"].long(), orders, options)
    found = accuracies(head, inputs["x_test"].detach(), inputs["y_test"].long())
    scores = {f"acc{name.removeprefix('top')}": _share(percent) for name, percent in found.items()}
    return {"W": head.weight.detach(), "b": head.bias.detach(), **scores}


def _share(percent: float) -> Tensor:
    # The authors took the mean in float32.
    return torch.tensor(percent / 100, dtype=torch.float32)


COMPUTE: dict[str, Compute] = {"08a_knn_sgd/sgd_probe_": _linear_cached}
