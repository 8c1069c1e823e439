"""Fixtures for all tests that run on one process."""

import os
from pathlib import Path

import pytest

from tests.support.data import toy_data


def pytest_configure():
    """Leave the cores to the tests that start several processes.

    Before torch is imported, which reads it then: bits depend on its threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory):
    """Leave the user's key alone: runs with own parts are marked by another."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> dict[str, Path]:
    """Prepared data sets by name; not to be changed by a test."""
    return toy_data.write_all(tmp_path_factory.mktemp("toy-data"))
