"""How many directions the embeddings use.

Shapes: N rows, D embedding size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def singular_values(embeddings: Tensor) -> Tensor:
    """Return the singular values of the embedding matrix, not centred, in descending order.

    They are the roots of the eigenvalues of the smaller Gram matrix, in float64: exact to about 1e-8 of
    the largest.

    Args:
        embeddings: `(N, D)`.

    Returns:
        `(min(N, D),)` in float64; all NaN if an embedding is not finite.
    """
    z = embeddings.double()
    gram = z.T @ z if z.shape[0] > z.shape[1] else z @ z.T
    if not torch.isfinite(gram).all():
        return torch.full((len(gram),), math.nan, dtype=gram.dtype, device=gram.device)
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
    return eigenvalues.clamp_min(0).sqrt().flip(0)


def effective_rank(values: Tensor) -> float:
    """Return exp of the entropy of singular values s scaled to sum to one.

    Args:
        values: from `singular_values`.

    Returns:
        A number from 1 (one direction) to their count (all equally); 0 if all are zero; NaN for NaN.
    """
    share = values / values.sum()
    if not values.any():
        return 0.0
    return float(torch.special.entr(share).sum().exp())


def rankme(embeddings: Tensor) -> float:
    """Return RankMe, the effective rank of the embeddings: exp of the entropy of their singular values.

    Args:
        embeddings: `(N, D)`; it is bounded by the smaller of the two.

    Returns:
        See `effective_rank`.

    Source: Garrido et al. 2023, arXiv 2210.02885, equation 1, with 0 log 0 = 0 in place of its epsilon.
    """
    return effective_rank(singular_values(embeddings))


@torch.no_grad()
def embedding_std(embeddings: Tensor) -> float:
    """Return sqrt(D) times the mean over dimensions of the standard deviation of embeddings of length one.

    Args:
        embeddings: `(N, D)`.

    Returns:
        About 1 for directions spread evenly over the sphere, 0 if all are the same; NaN for NaN.

    Source: Chen & He 2021 (SimSiam), arXiv 2011.10566, figure 2, scaled by sqrt(D).
    """
    z = F.normalize(embeddings.double(), dim=1)
    return float(z.std(dim=0, correction=0).mean()) * math.sqrt(z.shape[1])
