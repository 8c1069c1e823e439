"""Partitioners give every sample to exactly one client, and keep their promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.partitioners import Pool, partitioners
from data_prep.partitioners.base import units
from fedapm_mpi.errors import ConfigError

OPTIONS = {
    "natural": {"min_samples": 3},
    "iid": {},
    "dirichlet": {"beta": 0.3, "min_samples": 2},
    "shards": {"labels": 2},
}


MAYBE = st.booleans()


@st.composite
def pools(draw, grouped=MAYBE, labels=4):
    """Draw pools of 40 to 150 samples with clients and, maybe, groups within these."""
    number = draw(st.integers(40, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.integers(0, labels, number)
    y[:labels] = np.arange(labels)
    ids = rng.integers(0, 6, number)
    groups = None
    if draw(grouped):
        groups = 10 * ids + rng.integers(0, 5, number)
    return Pool(y, ids, groups)


def split(name, pool, m, seed=0, **options):
    wanted = None if name == "natural" else m
    rng = np.random.default_rng(seed)
    return partitioners.get(name)(pool, wanted, rng, **{**OPTIONS[name], **options})


def test_every_partitioner_is_tested():
    assert sorted([*OPTIONS, "official-dirichlet"]) == partitioners.names()


@pytest.mark.parametrize("name", OPTIONS)
@given(pool=pools(), m=st.integers(2, 5), seed=st.integers(0, 10))
def test_is_a_partition(name, pool, m, seed):
    parts = split(name, pool, m, seed)
    assert name == "natural" or len(parts) == m
    for rows in parts:
        assert rows.dtype == np.int64
        assert len(rows) > 0
        assert (np.diff(rows) > 0).all()
    assert sorted(np.concatenate(parts)) == list(range(len(pool.labels)))


@pytest.mark.parametrize("name", OPTIONS)
@given(pool=pools(grouped=st.just(True)), m=st.integers(2, 4))
def test_groups_stay_together(name, pool, m):
    owners = {}
    for client, rows in enumerate(split(name, pool, m)):
        for group in pool.groups[rows].tolist():
            assert owners.setdefault(group, client) == client


@pytest.mark.parametrize("name", OPTIONS)
@given(pool=pools(), m=st.integers(2, 5))
def test_same_seed_same_parts(name, pool, m):
    first, second = (split(name, pool, m, 7) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["iid", "dirichlet", "shards"])
def test_other_seed_other_parts(name):
    pool = Pool(np.arange(200) % 4)
    first, second = split(name, pool, 5, 1), split(name, pool, 5, 2)
    assert any(a.tolist() != b.tolist() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["iid", "dirichlet", "shards"])
@pytest.mark.parametrize("m", [None, 0, 51])
def test_number_of_clients_is_checked(name, m):
    with pytest.raises(ConfigError, match=r"clients=|say how many"):
        partitioners.get(name)(Pool(np.zeros(50, int)), m, np.random.default_rng(0))


@given(pool=pools(grouped=st.just(False)), m=st.integers(1, 7))
def test_iid_sizes_differ_by_one(pool, m):
    sizes = [len(rows) for rows in split("iid", pool, m)]
    assert max(sizes) - min(sizes) <= 1


@given(
    pool=pools(grouped=st.just(False)),
    m=st.integers(2, 8),
    beta=st.sampled_from([1e-3, 0.1, 1.0, 1e6]),
    least=st.integers(0, 5),
)
def test_dirichlet_reaches_the_minimum_by_moving(pool, m, beta, least):
    parts = split("dirichlet", pool, m, beta=beta, min_samples=least)
    assert min(len(rows) for rows in parts) >= max(1, least)
    unrepaired = split("dirichlet", pool, m, beta=beta, min_samples=0)
    if parts.moved == unrepaired.moved == 0:
        for a, b in zip(parts, unrepaired, strict=True):
            np.testing.assert_array_equal(a, b)


def test_dirichlet_moves_no_more_than_what_is_short():
    pool = Pool(np.repeat(np.arange(10), 100))
    plain = split("dirichlet", pool, 50, beta=0.05, min_samples=1)
    before = np.array([len(rows) for rows in plain])
    repaired = split("dirichlet", pool, 50, beta=0.05, min_samples=10)
    after = np.array([len(rows) for rows in repaired])
    assert repaired.moved == np.maximum(10 - before, 0).sum() + plain.moved
    assert after.min() == 10
    # Taken from the largest, which stay the largest but not by as much.
    assert after.max() < before.max()


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_dirichlet_refuses_beta(beta):
    with pytest.raises(ConfigError, match="beta must be positive"):
        split("dirichlet", Pool(np.zeros(50, int)), 2, beta=beta)


def test_dirichlet_minimum_that_cannot_be():
    with pytest.raises(ConfigError, match="cannot be made of 50 samples"):
        split("dirichlet", Pool(np.zeros(50, int)), 6, min_samples=9)
    two = Pool(np.zeros(50, int), None, np.repeat([0, 1], 25))
    with pytest.raises(ConfigError, match="without breaking groups"):
        split("dirichlet", two, 3, min_samples=2)


def test_smaller_beta_is_less_alike():
    pool = Pool(np.repeat(np.arange(10), 1000))
    largest = []
    for beta in (0.05, 0.5, 5.0, 500.0):
        counts = np.array(
            [
                np.bincount(pool.labels[rows], minlength=10) / len(rows)
                for rows in split("dirichlet", pool, 20, beta=beta, min_samples=10)
            ]
        )
        largest.append(counts.max(axis=1).mean())
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] < 0.15


@given(st.data())
def test_shards_gives_q_labels(data):
    classes = data.draw(st.integers(1, 6))
    q = data.draw(st.integers(1, classes))
    m = data.draw(st.integers(-(-classes // q), 12))
    sizes = data.draw(st.lists(st.integers(m, 60), min_size=classes, max_size=classes))
    pool = Pool(np.repeat(np.arange(classes), sizes))
    for rows in split("shards", pool, m, data.draw(st.integers(0, 9)), labels=q):
        assert len(np.unique(pool.labels[rows])) == q


def test_shards_of_balanced_classes_are_equal():
    pool = Pool(np.repeat(np.arange(10), 600))
    assert {len(rows) for rows in split("shards", pool, 20, labels=2)} == {300}


@pytest.mark.parametrize(
    ("m", "q", "message"),
    [(3, 5, "from 2 to 4"), (3, 1, "from 2 to 4"), (30, 4, "cannot be cut")],
)
def test_shards_that_cannot_be(m, q, message):
    pool = Pool(np.repeat(np.arange(4), [50, 50, 3, 3]))
    with pytest.raises(ConfigError, match=message):
        split("shards", pool, m, labels=q)


def natural(pool, m=None, **options):
    return partitioners.get("natural")(pool, m, np.random.default_rng(0), **options)


def test_natural_follows_the_ids():
    ids = np.array([7, 3, 7, 5, 3])
    parts = natural(Pool(np.zeros(5, int), ids))
    assert [rows.tolist() for rows in parts] == [[1, 4], [3], [0, 2]]


def test_natural_merges_into_a_number_in_turn():
    ids = np.arange(7)
    parts = natural(Pool(np.zeros(7, int), ids), 3)
    assert [rows.tolist() for rows in parts] == [[0, 3, 6], [1, 4], [2, 5]]


def test_natural_merges_the_smallest_until_all_are_large_enough():
    ids = np.repeat([0, 1, 2, 3], [5, 1, 9, 2])
    parts = natural(Pool(np.zeros(17, int), ids), min_samples=4)
    # 1 (1 sample) joins 3 (2), and both the next smallest, 0 (5).
    owners = [sorted(set(ids[rows].tolist())) for rows in parts]
    assert owners == [[0, 1, 3], [2]]


@given(pools(), st.integers(1, 40))
def test_natural_minimum(pool, least):
    parts = natural(pool, min_samples=least)
    assert min(len(rows) for rows in parts) >= least
    whole = [set(pool.ids[rows].tolist()) for rows in parts]
    assert sum(map(len, whole)) == len(np.unique(pool.ids))


@pytest.mark.parametrize(
    ("ids", "m", "least", "message"),
    [
        (None, None, 1, "names no clients"),
        (np.array([0, 1, 1]), 3, 1, "merged, not split"),
        (np.array([0, 1, 1]), 0, 1, "merged, not split"),
        (np.array([0, 1, 1]), 2, 2, "the smallest has 1"),
        (np.array([0, 1, 1]), None, 4, "more than all 3"),
    ],
)
def test_natural_that_cannot_be(ids, m, least, message):
    with pytest.raises(ConfigError, match=message):
        natural(Pool(np.zeros(3, int), ids), m, min_samples=least)


def test_units_have_their_most_frequent_label():
    made = units(Pool(np.array([1, 2, 2, 0, 3, 3]), None, np.array([9, 9, 9, 4, 4, 4])))
    assert made.labels.tolist() == [3, 2]
    assert made.sizes.tolist() == [3, 3]
    assert made.of_sample.tolist() == [1, 1, 1, 0, 0, 0]
