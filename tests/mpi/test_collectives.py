"""Collectives of buffers and of small objects; integers, so every result is exact."""

import numpy as np
import pytest

from fedapm_mpi.comm import SERVER
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError

pytestmark = pytest.mark.mpi

LIMIT = 1000
"""Stands in for the 2^31 elements that an MPI count may be limited to."""

LENGTHS = (0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT, 3 * LIMIT + 7)


def pattern(length, rank, dtype):
    """Return numbers that differ by place and rank and are exact in any dtype."""
    return ((np.arange(length) * 7 + 13 * rank) % 251).astype(dtype)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_broadcast(limited, length, dtype):
    comm = limited(LIMIT)
    array = pattern(length, comm.rank, dtype)
    comm.broadcast(array)
    assert (array == pattern(length, SERVER, dtype)).all()
    assert sum(comm._comm.lengths) == length
    assert len(comm._comm.lengths) == -(-length // LIMIT)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_sum_to_server(limited, length, dtype):
    comm = limited(LIMIT)
    array = pattern(length, comm.rank, dtype)
    comm.reduce_sum(array)
    if comm.rank == SERVER:
        every = [pattern(length, rank, dtype) for rank in range(comm.size)]
        assert (array == np.sum(every, axis=0)).all()
    assert sum(comm._comm.lengths) == length


def test_sum_near_the_largest_integer(world):
    share = (2**62 - 1) // world.size
    array = np.array([share, -share, world.rank], np.int64)
    world.reduce_sum(array)
    if world.rank == SERVER:
        total = share * world.size
        assert array.tolist() == [total, -total, sum(range(world.size))]


def test_an_array_of_several_axes(limited):
    comm = limited(LIMIT)
    array = pattern(60 * 50, comm.rank, np.float32).reshape(60, 50)
    comm.broadcast(array)
    assert (array.reshape(-1) == pattern(3000, SERVER, np.float32)).all()


def test_an_array_with_gaps_is_refused(world):
    with pytest.raises(ValueError, match="not contiguous"):
        world.reduce_sum(np.zeros((4, 4))[:, ::2])


def test_maximum(world):
    largest = world.size - 1
    found = world.allreduce_max(
        [world.rank, -world.rank, 1e-300, float(world.rank == 1)]
    )
    assert found == [largest, 0, 1e-300, float(world.size > 1)]


def test_maximum_of_infinity(world):
    found = world.allreduce_max([np.inf if world.rank == world.size - 1 else 0.0])
    assert found == [np.inf]


def counts_of(kind, size):
    return {
        "even": [4] * size,
        "uneven": [3 * rank + 1 for rank in range(size)],
        "server empty": [0] + [5] * (size - 1),
        "one has all": [0] * (size - 1) + [700],
        "all empty": [0] * size,
        "long": [LIMIT - 9] * size,
    }[kind]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("width", [1, 4, 32])
@pytest.mark.parametrize(
    "kind", ["even", "uneven", "server empty", "one has all", "all empty", "long"]
)
def test_gather_rows(limited, kind, width, dtype):
    comm = limited(LIMIT)
    counts = counts_of(kind, comm.size)
    every = [
        pattern(n * width, rank, dtype).reshape(n, width)
        for rank, n in enumerate(counts)
    ]
    found = comm.gatherv(every[comm.rank], counts)
    if comm.rank == SERVER:
        assert found.dtype == dtype
        assert (found == np.concatenate(every)).all()
    else:
        assert found is None


def test_rows_longer_than_the_limit_travel_alone(world):
    world._piece = 3
    rows = np.full((2, 5), world.rank, np.float32)
    found = world.gatherv(rows, [2] * world.size)
    if world.rank == SERVER:
        assert found[:, 0].tolist() == np.repeat(np.arange(world.size), 2).tolist()


def test_share_and_gather(world):
    assert world.bcast_object({"from": world.rank, "text": "ü"}) == {
        "from": 0,
        "text": "ü",
    }
    assert world.bcast_object(world.rank if world.rank == SERVER else None) == SERVER
    found = world.gather_object(("rank", world.rank))
    if world.rank == SERVER:
        assert found == [("rank", rank) for rank in range(world.size)]
    else:
        assert found is None


def test_agree_when_all_is_well(world):
    assert world.raise_collectively(None) is None


@pytest.mark.parametrize("at", ["first", "last"])
def test_an_error_on_one_rank_is_raised_on_all(world, at):
    culprit = 0 if at == "first" else world.size - 1
    error = DataError(f"from rank {world.rank}") if world.rank == culprit else None
    with pytest.raises(DataError, match=rf"^from rank {culprit}$") as caught:
        world.raise_collectively(error)
    assert caught.value.agreed
    assert caught.value.exit_code == 3


def test_the_error_of_the_lowest_rank_is_raised(world):
    errors = [DataError, ConfigError, FedAPMError]
    error = errors[world.rank % 3](f"from rank {world.rank}")
    with pytest.raises(DataError, match=r"^from rank 0$"):
        world.raise_collectively(error)


def test_what_is_raised_alone_is_not_agreed():
    assert not DataError("alone").agreed


def test_counts_are_known_everywhere(world):
    assert world.allgather_int(7 * world.rank + 1) == [
        7 * r + 1 for r in range(world.size)
    ]
