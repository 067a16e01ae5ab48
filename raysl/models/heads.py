"""Projectors and predictors: small perceptrons built from a specification."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from raysl.config.base import Config

Size = Annotated[int, Field(ge=1)]


class HeadConfig(Config):
    """A perceptron: linear layers, each but the last followed by batch normalisation and ReLU."""

    layers: int = Field(default=2, ge=1, le=10)
    """Linear layers."""
    width: Size | tuple[Size, ...] | None = None
    """Units of the hidden layers, one number for all or one for each; null: as many as the head's inputs."""
    out: int | None = Field(default=None, ge=1)
    """Outputs; null: as many as the head's inputs."""
    bn: bool = True
    """Normalise the hidden layers over the global batch."""
    bias: Literal["auto"] | bool = "auto"
    """Biases of the linear layers; auto: only where no batch normalisation follows and would cancel it."""
    last_bn: Literal["none", "plain", "affine"] = "none"
    """Batch normalisation of the outputs; plain: without a learned scale and offset."""

    @model_validator(mode="after")
    def _a_width_for_each_layer(self) -> Self:
        if isinstance(self.width, tuple) and len(self.width) != self.layers - 1:
            raise ValueError(
                f"width has {len(self.width)} numbers for the {self.layers - 1} hidden layers of layers="
                f"{self.layers}; give one number, or one for each"
            )
        return self

    def hidden(self, in_features: int) -> tuple[int, ...]:
        """Return the units of each hidden layer of a head on `in_features` inputs."""
        if isinstance(self.width, tuple):
            return self.width
        return (self.width or in_features,) * (self.layers - 1)

    def out_features(self, in_features: int) -> int:
        """Return the number of outputs of a head on `in_features` inputs."""
        return self.out or in_features


def build_head(config: HeadConfig, in_features: int) -> nn.Sequential:
    """Build a projector or predictor with torch's default initialisation.

    Args:
        config: the specification.
        in_features: size of the vectors it takes.

    Returns:
        A module that maps `(N, in_features)` to `(N, config.out_features(in_features))`.
    """
    sizes = [in_features, *config.hidden(in_features), config.out_features(in_features)]
    modules: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        last = index == config.layers
        normalised = config.last_bn != "none" if last else config.bn
        bias = not normalised if config.bias == "auto" else config.bias
        modules.append(nn.Linear(inputs, outputs, bias=bias))
        if normalised:
            modules.append(nn.BatchNorm1d(outputs, affine=not last or config.last_bn == "affine"))
        if not last:
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules)
