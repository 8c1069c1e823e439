"""Which client is meant by a number or a name."""

from pathlib import Path

import pytest

from fedapm_mpi.analysis.client_model import (
    find_client,
)
from fedapm_mpi.errors import DataError
from tests.support.own_files import PLAIN, here, write  # noqa: F401

NAMES = ("anna", "7", "0", "bert", "anna")


@pytest.mark.parametrize(
    ("client", "number"),
    [(3, 3), ("bert", 3), ("7", 1), ("0", 2), ("4", 4), (0, 0), ("1", 1)],
)
def test_a_client_by_number_or_name(client, number):
    import numpy as np

    assert find_client(Path("run"), NAMES, client) == number
    if isinstance(client, int):
        assert find_client(Path("run"), NAMES, np.int64(client)) == number


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (5, "run has clients 0 to 4, not 5"),
        (-1, "run has clients 0 to 4, not -1"),
        ("5", "run has clients 0 to 4, not 5"),
        ("9" * 5000, "run has clients 0 to 4, not 999"),
        ("berd", "run has no client called 'berd'; did you mean 'bert'?"),
        ("-1", "run has no client called '-1'"),
        ("x" * 5000, "run has no client called 'xxx"),
        ("anna", "2 clients are called 'anna'; give a number"),
        (True, "by its number or its name, not by True of type bool"),
        (1.0, "not by 1.0 of type float"),
        (None, "not by None of type NoneType"),
        (b"bert", "of type bytes"),
    ],
)
def test_a_client_that_is_not_there(client, expected):
    with pytest.raises(DataError) as caught:
        find_client(Path("run"), NAMES, client)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400
