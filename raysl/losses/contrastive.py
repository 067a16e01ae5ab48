"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, arXiv 2002.05709).

Shapes: N rows of each view (the global batch), D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raysl.losses.rows import full_precision, require_matching_rows, unit_rows


def nt_xent_loss(views: Sequence[Tensor], *, temperature: float = 0.5, normalize: bool = True) -> Tensor:
    """Normalised-temperature cross-entropy over the 2N - 1 candidates of a pair of views.

    For views a and b, and s(u, v) = u'v / temperature on rows of length one:

        l(a_i, b) = -s(a_i, b_i) + log[ sum_j exp s(a_i, b_j) + sum_{j != i} exp s(a_i, a_j) ]
        loss      = mean over i and over ordered pairs a != b of l(a_i, b)

    which is the mean over pairs of views of the mean of both directions. Runs in float32 under autocast;
    float64 stays. Constant embeddings give log(2N - 1) and a zero gradient; a NaN anywhere makes it NaN.

    Args:
        views: two or more views, each `(N, D)`.
        temperature: scale of the similarities (tau), above 0.
        normalize: use rows of length one (cosine similarity); otherwise the rows as they are.

    Returns:
        A scalar.

    Raises:
        ValueError: fewer than two views or rows, shapes that differ, or a temperature that is not positive.

    Source: arXiv 2002.05709, equation 1, averaged over more than two views as in W-MSE's authors' code.
    """
    if len(views) < 2:
        raise ValueError(f"expected two or more views, got {len(views)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    require_matching_rows(*views)
    count, rows = len(views), len(views[0])
    with full_precision(*views) as tensors:
        x = torch.cat(tensors)
        x = unit_rows(x) if normalize else x
        # One Gram matrix serves every pair; a row is no candidate for itself.
        logits = (x @ x.T / temperature).fill_diagonal_(-torch.inf).view(count, rows, count, rows)
        block = logits.logsumexp(dim=3).transpose(1, 2)  # [a, b, i]: candidates of a_i in view b
        own = block.diagonal(dim1=0, dim2=1).T[:, None, :]  # [a, 1, i]: among its own view
        positive = logits.diagonal(dim1=1, dim2=3)  # [a, b, i]
        between = ~torch.eye(count, dtype=torch.bool, device=x.device)
        return (torch.logaddexp(block, own) - positive)[between].mean()
