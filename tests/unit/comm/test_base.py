"""Pieces of messages, and rows of clients on the server."""

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.comm.base import chunks, flat_view, gather_client_rows


@pytest.mark.parametrize(("length", "limit"), [(10, 3), (9, 3), (2, 3), (0, 3)])
def test_chunks_cover_a_length_in_order(length, limit):
    found = chunks(length, limit)
    assert [k for one in found for k in range(length)[one]] == list(range(length))
    assert all(one.stop - one.start <= limit for one in found)


def test_a_flat_view_shares_memory():
    array = np.zeros((2, 3))
    flat_view(array)[4] = 1
    assert array[1, 1] == 1
    with pytest.raises(ValueError, match=r"shape \(3, 2\) is not contiguous"):
        flat_view(array.T)


def test_rows_of_clients():
    clients, rows = gather_client_rows(Serial(), [5, 2], [[1, 2], [3, 4]], width=2)
    assert clients.dtype == np.int64
    assert clients.tolist() == [5, 2]
    assert rows.tolist() == [[1, 2], [3, 4]]
    clients, rows = gather_client_rows(Serial(), [], [], width=2)
    assert clients.shape == (0,)
    assert rows.shape == (0, 2)
