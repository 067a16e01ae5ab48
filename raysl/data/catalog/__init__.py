"""Data sets that have a name here: what is in them, and how one comes by them.

A named set is trained on once `raysl data prepare NAME data/NAME` has written it as Parquet.
"""

from __future__ import annotations

import difflib

from raysl.data.catalog.entries import ENTRIES, Entry

__all__ = ["CATALOG", "Entry", "nearest_name"]

CATALOG = {entry.name: entry for entry in ENTRIES}


def nearest_name(name: str) -> str:
    """Return `; did you mean ...?` where a name is nearly one of the catalog's, else nothing."""
    near = difflib.get_close_matches(name, [*CATALOG, "digits"], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
