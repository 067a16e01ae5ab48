"""Vision transformers for views of several sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vision_transformer

from raysl.errors import InputError


class VisionTransformer(vision_transformer.VisionTransformer):  # type: ignore[misc]
    """torchvision's vision transformer of 12 layers, without its classifier, for images of any size.

    Position embeddings belong to the patches of one size; for another they are interpolated (bicubic). The
    weights carry torchvision's names. The features are the class token's, after the last normalisation.

    Args:
        image_channels: 1 for grey images, 3 for colour.
        image_size: side of the images that have an embedding for each patch, in pixels.
        patch: side of a patch in pixels.
        width: size of a token and of the features.
        heads: of attention.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), ViT-B; its small variant is DeiT-S (arXiv 2012.12877).
    """

    def __init__(self, image_channels: int, image_size: int, patch: int, width: int, heads: int) -> None:
        super().__init__(
            image_size, patch, num_layers=12, num_heads=heads, hidden_dim=width, mlp_dim=4 * width
        )
        self.heads = nn.Identity()
        if image_channels != 3:
            first: Any = nn.Conv2d(image_channels, width, kernel_size=patch, stride=patch)
            nn.init.trunc_normal_(first.weight, std=math.sqrt(1 / (image_channels * patch**2)))
            nn.init.zeros_(first.bias)
            self.conv_proj = first

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(N, C, H, W)` to features `(N, width)`.

        Raises:
            InputError: the patches do not tile the images.
        """
        patch: int = self.patch_size
        rows, row_rest = divmod(x.shape[2], patch)
        columns, column_rest = divmod(x.shape[3], patch)
        if row_rest or column_rest:
            raise InputError(
                f"backbone.patch = {patch}: views of {x.shape[3]}x{x.shape[2]} pixels do not divide into "
                "such patches; set views.size to a multiple"
            )
        tokens = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1)
        tokens = self.encoder.dropout(tokens + self._positions(rows, columns))
        features: Tensor = self.encoder.ln(self.encoder.layers(tokens))[:, 0]
        return features

    def _positions(self, rows: int, columns: int) -> Tensor:
        embeddings: Tensor = self.encoder.pos_embedding
        side = self.image_size // self.patch_size
        if (rows, columns) == (side, side):
            return embeddings
        first, grid = embeddings[:, :1], embeddings[:, 1:]
        grid = grid.transpose(1, 2).reshape(1, -1, side, side)
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)
