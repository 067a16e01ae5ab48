"""The reference cases of the nearest-neighbour classifier that the papers report."""

from __future__ import annotations

import torch

from raysl.metrics.knn import knn_accuracy, knn_predict
from raysl.verify.reference import Case, Compute, Values


def _knn(case: Case, inputs: Values) -> Values:
    k = case.hyperparameters["k"]
    train_x, train_y, test_x = inputs["x_train"], inputs["y_train"], inputs["x_test"]
    values = {"pred": knn_predict(train_x, train_y, test_x, k=k)}
    if "y_test" in inputs:
        accuracy = knn_accuracy(train_x, train_y, test_x, inputs["y_test"], k=k)
        values["accuracy"] = torch.tensor(accuracy, dtype=torch.float64)
    return values


COMPUTE: dict[str, Compute] = {"08a_knn_sgd/knn_": _knn}
