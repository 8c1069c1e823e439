"""The sum of increments: exact, and the same however clients are assigned to ranks."""

import math
from fractions import Fraction

import numpy as np
import pytest

from fedapm_mpi.aggregators import AggregationContext, aggregators
from fedapm_mpi.comm import SERVER

pytestmark = pytest.mark.mpi

LENGTH = 40
CLIENTS = 7


def ordinary(rng):
    return rng.normal(size=(CLIENTS, LENGTH))


def mixed(rng):
    return rng.normal(size=(CLIENTS, LENGTH)) * 10.0 ** rng.integers(
        -18, 3, (CLIENTS, LENGTH)
    )


def one_huge(rng):
    values = 1e-9 * rng.normal(size=(CLIENTS, LENGTH))
    values[3, ::5] = 1e9
    return values


def cancelling(rng):
    values = rng.normal(size=(CLIENTS, LENGTH))
    values[-1] = -values[:-1].sum(axis=0)
    return values


def tiny(rng):
    return 1e-300 * rng.normal(size=(CLIENTS, LENGTH))


def vast(rng):
    return 1e300 * rng.normal(size=(CLIENTS, LENGTH))


def both_ends(rng):
    return np.where(np.arange(LENGTH) % 2, tiny(rng), vast(rng))


def subnormal(rng):
    return 5e-324 * rng.integers(-40, 41, (CLIENTS, LENGTH))


def least_of_all(rng):
    return np.full((CLIENTS, LENGTH), 5e-324)


def largest_of_all(rng):
    return np.full((CLIENTS, LENGTH), np.finfo(np.float64).max / 8)


def powers_of_two(rng):
    return np.ldexp(1.0, rng.integers(-60, 1, (CLIENTS, LENGTH)))


def zeros(rng):
    return np.zeros((CLIENTS, LENGTH))


KINDS = (
    ordinary,
    mixed,
    one_huge,
    cancelling,
    tiny,
    vast,
    both_ends,
    subnormal,
    least_of_all,
    largest_of_all,
    powers_of_two,
    zeros,
)


def assignments(size):
    """Return ways to give the clients to ranks, each the rank of every client."""
    clients = np.arange(CLIENTS)
    return {
        "round-robin": clients % size,
        "contiguous": clients * size // CLIENTS,
        "backwards": (CLIENTS - 1 - clients) % size,
        "all on the last": np.full(CLIENTS, size - 1),
        "all on the server": np.zeros(CLIENTS, np.int64),
        "as if shuffled": (clients * clients + 1) % size,
    }


def summed(comm, name, values, host_of):
    """Return a reduction's result where each rank brings its clients' increments."""
    clients = np.flatnonzero(host_of == comm.rank).tolist()
    mine = [values[i] for i in clients]
    largest = comm.allreduce_max(
        [max((float(np.abs(x).max()) for x in mine), default=0.0)]
    )
    context = AggregationContext(
        round_index=0,
        participants=np.arange(len(values)),
        clients=clients,
        seed=0,
        length=LENGTH,
        largest=largest[0],
    )
    return aggregators.get(name)().sum(comm, mine, context)


def oracle(values):
    """Return the sums that the module promises, in rational arithmetic.

    Every term is rounded to a multiple of 2^-k, where k = 62 - e - ceil(log2 n).
    """
    largest = np.abs(values).max()
    if largest == 0:
        return np.zeros(values.shape[1])
    _, e = math.frexp(largest)
    unit = Fraction(2) ** (e + math.ceil(math.log2(len(values))) - 62)
    return np.array(
        [float(sum(round(Fraction(x) / unit) for x in column) * unit)
         for column in values.T.tolist()]
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exact_sum_is_that_of_rational_arithmetic(world, kind):
    values = kind(np.random.default_rng(11))
    expected = oracle(values).tobytes()
    for assignment, host_of in assignments(world.size).items():
        found = summed(world, "exact", values, host_of)
        if world.rank == SERVER:
            assert found.dtype == np.float64
            assert found.tobytes() == expected, assignment


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exact_sum_is_as_near_as_promised(world, kind):
    values = kind(np.random.default_rng(12))
    found = summed(world, "exact", values, assignments(world.size)["round-robin"])
    if world.rank == SERVER:
        true = [sum(map(Fraction, column)) for column in values.T.tolist()]
        bound = CLIENTS * Fraction(float(np.abs(values).max())) / 2**58
        for got, wanted in zip(found.tolist(), true, strict=True):
            rounding = abs(wanted) / 2**52 + Fraction(5e-324)
            assert abs(Fraction(got) - wanted) <= bound + rounding


def test_exact_sum_of_messages_in_pieces(limited):
    comm = limited(13)  # the last of four pieces has one element
    values = mixed(np.random.default_rng(13))
    found = summed(comm, "exact", values, assignments(comm.size)["backwards"])
    if comm.rank == SERVER:
        assert found.tobytes() == oracle(values).tobytes()


def test_no_client_takes_part(world):
    for name in ("exact", "float32"):
        found = summed(world, name, np.zeros((0, LENGTH)), np.zeros(0, np.int64))
        if world.rank == SERVER:
            assert found.tolist() == [0.0] * LENGTH


def test_a_plain_sum_would_depend_on_the_assignment():
    """The control: these numbers do tell an exact sum from a floating-point one."""
    values = mixed(np.random.default_rng(11))
    forwards = np.add.reduce(values)
    halves = np.add.reduce(values[::2]) + np.add.reduce(values[1::2])
    assert forwards.tobytes() != halves.tobytes()
    assert forwards.tobytes() != oracle(values).tobytes()


@pytest.mark.parametrize("kind", [ordinary, mixed, one_huge, zeros])
def test_float32_sum_is_near(world, kind):
    values = kind(np.random.default_rng(14))
    for host_of in assignments(world.size).values():
        found = summed(world, "float32", values, host_of)
        if world.rank == SERVER:
            error = np.abs(found - values.sum(axis=0))
            assert (error <= 1e-6 * np.abs(values).sum(axis=0)).all()
