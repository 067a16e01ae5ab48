"""The environment variables of a Ray in use, and the caller's own put back afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from raysl.cluster.address import ADDRESS_VARIABLE

# Set for the block unless the user has set them.
DEFAULTS = {
    # `ray.train.report` returns only at the controller's next look; its default is 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray 2.55 warns at each worker without a GPU unless this says what later versions do anyway.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextlib.contextmanager
def ray_environment(*, private: bool) -> Iterator[None]:
    """Set what Ray and its workers inherit, for the length of the block.

    Args:
        private: the Ray is started here, and so its workers inherit all of this process's environment.
    """
    before = {name: value for name, value in os.environ.items() if _is_rays(name)}
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if private:
        # Or whatever runs inside this Ray would look for somebody else's.
        os.environ.pop(ADDRESS_VARIABLE, None)
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            # Without a token Ray runs the code of anybody who reaches its ports; without one given here
            # it writes one into the home directory.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        _let_workers_import_raysl()
    try:
        yield
    finally:
        for name in [name for name in os.environ if _is_rays(name) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


def read_token_again() -> None:
    """Let Ray forget the token it has read for the Ray this process was connected to before."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # Ray's stub lacks it

    AuthenticationTokenLoader.instance().reset_cache()


def _is_rays(name: str) -> bool:
    """Return whether Ray, or this module for it, may set the variable; Ray takes over `breakpoint()` too."""
    return name.startswith("RAY_") or name in ("PYTHONPATH", "PYTHONBREAKPOINT")


def _let_workers_import_raysl() -> None:
    """Put this raysl's folder on the workers' path where it is not installed, as in a notebook beside it.

    Ray gives its workers the driver's working directory and script folder, but no other entry of `sys.path`.
    """
    folder = str(Path(__file__).resolve().parents[2])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if folder not in (sysconfig.get_path("purelib"), *paths):
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *paths])
