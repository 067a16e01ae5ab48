"""When going on is pointless: the loss has diverged, or every image has the same embedding."""

from __future__ import annotations

import math
from typing import NamedTuple


class Cause(NamedTuple):
    """Why a run should end."""

    name: str
    """A stable word for tables and ledgers: `nan`, `inf` or `collapse`."""
    detail: str
    """A sentence for people."""


def collapse_cause(
    loss: float = 0.0,
    std: float = 1.0,
    rank: float = math.inf,
    *,
    min_std: float = 0.005,
    min_rank: float = 1.1,
    trained: bool = True,
) -> Cause | None:
    """Name what is wrong with a run, if anything is. A value that is not given is not judged.

    The defaults are for embeddings of a training batch, made in training mode. Untrained networks, with and
    without normalised heads, show a std above 0.03 and a rank above 2 there; rounding to bfloat16 leaves a
    constant embedding with a std of 0.001.

    Args:
        loss: the loss.
        std: of the embeddings, from `metrics.spectra.embedding_std`; about 1 is healthy.
        rank: effective rank of the embeddings, from `metrics.spectra.rankme`.
        min_std: below it the collapse is complete: every image has the same direction.
        min_rank: below it the collapse is dimensional: all embeddings lie on one line.
        trained: False before the first update, when a head that starts at zero gives constant embeddings
            by design: then only NaN and infinity count.

    Returns:
        The cause, or None. NaN comes before infinity, and both before collapse.
    """
    values = {"loss": loss, "embedding std": std, "effective rank": rank}
    for name, value in values.items():
        if math.isnan(value):
            return Cause("nan", f"the {name} is not a number")
    for name, value in (("loss", loss), ("embedding std", std)):
        if math.isinf(value):
            return Cause("inf", f"the {name} is infinite")
    if not trained:
        return None
    if std < min_std:
        return Cause("collapse", f"complete: embedding std {std:.2g} is below {min_std:g}")
    if rank < min_rank:
        return Cause("collapse", f"dimensional: effective rank {rank:.3g} is below {min_rank:g}")
    return None
