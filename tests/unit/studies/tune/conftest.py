"""Fixtures of studies that tune."""

import pytest

from tests.support.tuning import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small data set with validation parts; not to be changed by a test."""
    return write_data(tmp_path_factory.mktemp("tuning"))
