"""Loading configuration: YAML, recipes by name, overrides, and error messages.

This room knows how a config is read, merged, validated and explained; it does not know which fields there
are.
"""

from raysl.config.base import Config, nearest
from raysl.config.duration import Duration, in_steps
from raysl.config.load import build, difference, explain, folder_of, leaves, load, merge, nested
from raysl.config.package import RECIPES, SEARCH_SPACES, Shelf

__all__ = [
    "RECIPES",
    "SEARCH_SPACES",
    "Config",
    "Duration",
    "Shelf",
    "build",
    "difference",
    "explain",
    "folder_of",
    "in_steps",
    "leaves",
    "load",
    "merge",
    "nearest",
    "nested",
]
