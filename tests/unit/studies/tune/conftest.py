"""Fixtures of studies that tune."""

import pytest

from fedapm_mpi.studies.tune.report import write_report
from fedapm_mpi.studies.tune.study import Study
from tests.support.tuning import request, settle_all, write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small data set with validation parts; not to be changed by a test."""
    return write_data(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """A study that was never stopped, with its report."""
    out = tmp_path_factory.mktemp("whole") / "out"
    study = Study(request(data, out))
    runs = settle_all(study)
    closing, notes = write_report(study)
    return study, runs, closing, notes
