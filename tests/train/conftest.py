"""Jobs of several workers, done once for all tests of training."""

from __future__ import annotations

import pytest

from tests.train import jobs


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> jobs.Done:
    return jobs.do_all(tmp_path_factory.mktemp("jobs"))
