"""The exit codes that scripts rely on, and errors on their way to other ranks."""

import pickle

import pytest

from fedapm_mpi import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.FedAPMError, 70),
        (errors.ConfigError, 2),
        (errors.DataError, 3),
        (errors.TrainingError, 70),
        (errors.WriteError, 70),
        (errors.LockError, 2),
        (errors.CheckpointError, 70),
        (errors.SubmitError, 70),
    ],
)
def test_exit_codes(kind, code):
    error = kind("text")
    assert (error.exit_code, error.agreed, error.trace) == (code, False, "")
    assert isinstance(error, errors.FedAPMError)
    assert errors.EXIT_RESUMABLE == 75


def test_a_point_exits_as_its_run_did():
    assert errors.PointError("text", 3).exit_code == 3


def test_what_was_noted_of_an_error_reaches_other_ranks():
    error = errors.DataError("no shard")
    error.agreed, error.trace = True, "trace"
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is errors.DataError
    assert (str(other), other.agreed, other.trace) == ("no shard", True, "trace")
