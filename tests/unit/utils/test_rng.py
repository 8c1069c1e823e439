"""Random streams depend on their address alone."""

import random

import numpy as np
import pytest

from fedapm_mpi.utils import rng


def draws(*address):
    return rng.generator(*address).integers(2**62, size=4).tolist()


def test_the_same_address_gives_the_same_numbers():
    first = draws(0, "batches", 3, 17)
    rng.generator(0, "batches", 3, 17).normal(size=100)
    assert draws(0, "batches", 3, 17) == first


@pytest.mark.parametrize(
    "other",
    [
        (1, "batches", 3, 17),
        (0, "batch", 3, 17),
        (0, "batches", 17, 3),
        (0, "batches", 3),
        (0, "batches", 3, 18),
    ],
)
def test_another_address_gives_others(other):
    assert draws(*other) != draws(0, "batches", 3, 17)


def test_the_numbers_are_those_of_any_machine():
    """A checkpoint of another machine goes on with them."""
    expected = np.random.default_rng([0, 0x352441C2, 3]).integers(2**62, size=4)
    assert draws(0, "abc", 3) == expected.tolist(), "CRC-32 of 'abc' is 352441c2"


def test_seeds_for_torch():
    seeds = {rng.torch_seed(0, "dropout", k) for k in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rng.torch_seed(0, "dropout", 7) in seeds


def test_global_generators_are_seeded_and_restored():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    wanted = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    inside = []
    for _ in range(2):
        with rng.seeded_globals(2**40 + 5):
            inside.append((random.random(), np.random.rand()))  # noqa: NPY002
    with pytest.raises(KeyError), rng.seeded_globals(3):
        raise KeyError
    assert inside[0] == inside[1]
    assert (random.random(), np.random.rand()) == wanted  # noqa: NPY002


def test_purposes_are_frozen():
    """Another spelling of one would give every run and data set other numbers."""
    texts = sorted(v for k, v in vars(rng.Purpose).items() if k.isupper())
    assert texts == [
        "batches", "concept", "dropout", "dropout evaluate", "dropout personalise",
        "initial model", "kept", "missing", "new clients", "noise", "noise-levels",
        "participants", "partition", "personalise", "quality", "quality-levels",
        "scaling bootstrap", "scaling misfits", "split", "vertical",
    ]  # fmt: skip
