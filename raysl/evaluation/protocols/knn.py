"""`knn`: the vote of the nearest training images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from raysl.evaluation.protocols import base
from raysl.evaluation.protocols.base import Measured
from raysl.metrics.knn import knn_accuracy

COMPARES = False


class Options(base.Options):
    """How neighbours are found and how they vote."""

    k: int = Field(5, ge=1)
    """Neighbours that vote."""

    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between features; `cosine` compares their directions."""

    temperature: Annotated[float, Field(gt=0.0)] | None = None
    """Weight of a neighbour, exp(cosine / temperature); needs `metric: cosine`. Null: all count once."""

    @model_validator(mode="after")
    def _temperature_needs_cosine(self) -> Options:
        if self.temperature is not None and self.metric != "cosine":
            raise ValueError("a temperature weights cosines: give metric=cosine too, or no temperature")
        return self


def measure(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, options: Options) -> Measured:
    """Return top-1 accuracy in percent; equal votes go to the smallest label.

    Args:
        train_x: labelled features `(N, F)`.
        train_y: their labels `(N,)`.
        test_x: features to classify `(M, F)`.
        test_y: their true labels `(M,)`.
        options: see `Options`.

    Source: W-MSE's authors, `eval/knn.py` (defaults); Wu et al. 2018, arXiv 1805.01978 (weighted).
    """
    k, metric, temperature = options.k, options.metric, options.temperature
    accuracy = knn_accuracy(train_x, train_y, test_x, test_y, k=k, distance=metric, temperature=temperature)
    return Measured({"top1": 100.0 * accuracy})
