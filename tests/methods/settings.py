"""What a method needs beside small heads to be built for twelve rows."""

from __future__ import annotations

SETTINGS: dict[str, dict[str, object]] = {
    # Sub-batches are drawn at random, so that only the whole batch is the same in any order of its rows.
    "w_mse": {"w_size": 12, "projector": {"layers": 2, "width": 24, "out": 6}},
    "cw_rgp": {
        "w_size": 12,
        "groups": 2,
        "cov_weight": 0.1,
        "projector": {"layers": 2, "width": 24, "out": 48},
    },
    # Its own teacher, CLIP, is no part of the tests.
    "mv_mr_distill": {"teacher": {"name": "representation", "representation": "local_std"}},
}
"""Values of `method`, by the method's name."""
