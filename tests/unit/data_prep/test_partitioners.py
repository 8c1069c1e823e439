"""Partitioners give every sample to exactly one client, and keep their promises."""

import sys
import types
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.partitioners import Parts, Pool, partitioners
from data_prep.partitioners.base import units
from data_prep.partitioners.dirichlet_client import fit
from data_prep.pipeline import plan
from fedapm_mpi.errors import ConfigError

OPTIONS = {
    "natural": {"min_samples": 3},
    "iid": {},
    "dirichlet": {"beta": 0.3, "min_samples": 2},
    "natural-dirichlet": {"beta": 0.3, "min_samples": 2},
    "shards": {"labels": 2},
    "dirichlet-client": {"beta": 0.3, "sigma": 0.5, "min_samples": 2},
    "quantity-dirichlet": {"beta": 0.5, "min_samples": 2},
    "quantity-power": {"exponent": 1.5, "min_samples": 2},
    "quantity-linear": {"min_samples": 2},
    "quantity-exponential": {"ratio": 5.0, "min_samples": 2},
    "continuous": {"correlation": 0.5, "min_samples": 2},
    "hybrid": {
        "first": {"name": "iid"},
        "second": {"name": "dirichlet", "beta": 0.2, "min_samples": 1},
        "share": 0.4,
    },
}
MADE = sorted(OPTIONS.keys() - {"natural"})
"""Those that make clients of their own."""


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
    assert (
        sorted([*OPTIONS, "all-samples", "official-dirichlet"]) == partitioners.names()
    )


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


@pytest.mark.parametrize("name", MADE)
def test_other_seed_other_parts(name):
    pool = Pool(np.arange(200) % 4, np.arange(200) % 3)
    first, second = split(name, pool, 5, 1), split(name, pool, 5, 2)
    assert any(a.tolist() != b.tolist() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("m", [None, 0, 51])
def test_number_of_clients_is_checked(name, m):
    with pytest.raises(ConfigError, match=r"clients=|say how many"):
        split(name, Pool(np.zeros(50, int), np.zeros(50, int)), m)


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


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("dirichlet", "beta"),
        ("dirichlet-client", "beta"),
        ("quantity-dirichlet", "beta"),
        ("quantity-power", "exponent"),
        ("quantity-exponential", "ratio"),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_must_be_positive_is_refused_otherwise(name, key, value):
    with pytest.raises(ConfigError, match=f"{key} must be positive and finite"):
        split(name, Pool(np.zeros(50, int)), 2, **{key: value})


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


def test_natural_merges_in_balance():
    ids = np.repeat([0, 1, 2, 3, 4], [3, 9, 1, 5, 4])
    pool = Pool(np.zeros(22, int), ids)
    parts = natural(pool, 2, merge="balanced")
    # 1 (9), then 3 (5) and 4 (4) to the other, both 9; 0 to the first, 2 to the other.
    owners = [sorted(set(ids[rows].tolist())) for rows in parts]
    assert owners == [[0, 1], [2, 3, 4]]
    for least in (1, 10):
        same = natural(pool, 2, merge="balanced", min_samples=least)
        assert [rows.tolist() for rows in same] == [rows.tolist() for rows in parts]


@given(pools(), st.integers(1, 5))
def test_balance_is_within_the_largest(pool, m):
    parts = natural(pool, m, merge="balanced")
    sizes = [len(rows) for rows in parts]
    assert max(sizes) - min(sizes) <= np.bincount(pool.ids).max()
    whole = [set(pool.ids[rows].tolist()) for rows in parts]
    assert sum(map(len, whole)) == len(np.unique(pool.ids))
    firsts = [min(own) for own in whole]
    assert firsts == sorted(firsts)


def test_what_natural_did_before_is_called_as_before():
    for chosen in ("natural", {"name": "natural", "merge": "in-turn"}):
        made = plan("arrays", {"partitioner": chosen})
        assert made.partitioner == {"name": "natural", "min_samples": 1}
    balanced = {"name": "natural", "merge": "balanced"}
    chosen = plan("arrays", {"partitioner": balanced}).partitioner
    assert chosen == {"name": "natural", "min_samples": 1, "merge": "balanced"}


@given(pool=pools(), seed=st.integers(0, 10))
def test_shares_of_natural_clients_are_those_of_labels(pool, seed):
    by_id = split("natural-dirichlet", pool, 3, seed)
    by_label = split("dirichlet", pool._replace(labels=pool.ids), 3, seed)
    for one, other in zip(by_id, by_label, strict=True):
        np.testing.assert_array_equal(one, other)


def test_natural_clients_that_are_not_there():
    with pytest.raises(ConfigError, match="names no clients, whose samples"):
        split("natural-dirichlet", Pool(np.zeros(50, int)), 3)
    pool = Pool(np.zeros(3, int), np.array([0, 1, 1]))
    with pytest.raises(ConfigError, match="needs a number of clients to merge into"):
        natural(pool, merge="balanced")


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


# Sizes apart from labels -----------------------------------------------------------


def counts_of(parts, labels):
    """Return (m, classes) samples of each client and label."""
    classes = int(labels.max()) + 1
    return np.array([np.bincount(labels[rows], minlength=classes) for rows in parts])


@given(
    pool=pools(grouped=st.just(False)),
    m=st.integers(2, 8),
    name=st.sampled_from(
        [
            "dirichlet-client",
            "quantity-dirichlet",
            "quantity-power",
            "quantity-linear",
            "quantity-exponential",
            "continuous",
        ]
    ),
    least=st.integers(0, 5),
)
def test_minimum_of_a_client(pool, m, name, least):
    parts = split(name, pool, m, min_samples=least)
    assert min(len(rows) for rows in parts) >= max(1, least)


def test_fitted_cells_are_the_closest_in_kullback_leibler_divergence():
    """Those are the only ones with these sums whose logarithms differ additively."""
    rng = np.random.default_rng(1)
    mixes = rng.dirichlet(np.full(5, 0.4), 30)
    columns, rows = rng.uniform(5, 20, 5), rng.uniform(1, 4, 30)
    rows *= columns.sum() / rows.sum()
    cells = fit(mixes, columns, rows)
    np.testing.assert_allclose(cells.sum(axis=0), columns, rtol=1e-12)
    np.testing.assert_allclose(cells.sum(axis=1), rows, rtol=2e-3)
    change = np.log(cells / np.maximum(mixes, 1e-9))
    additive = change[:, :1] + change[:1] - change[0, 0]
    np.testing.assert_allclose(change, additive, atol=1e-9)


def test_dirichlet_by_client_gives_equal_sizes_and_dirichlet_mixes():
    labels = np.repeat(np.arange(10), 4000)
    for beta in (0.1, 0.5, 5.0):
        parts = split(
            "dirichlet-client", Pool(labels), 200, beta=beta, sigma=0, min_samples=1
        )
        counts = counts_of(parts, labels)
        assert parts.moved == 0
        assert abs(counts.sum(axis=1) - 200).max() <= 10
        # The mean of a Dirichlet draw's sum of squares is known.
        squares = ((counts / counts.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
        assert squares.mean() == pytest.approx((beta + 1) / (10 * beta + 1), rel=0.06)


def test_dirichlet_by_client_follows_unequal_classes():
    labels = np.repeat(np.arange(4), [8000, 4000, 2000, 2000])
    parts = split("dirichlet-client", Pool(labels), 40, beta=2000, sigma=0)
    shares = counts_of(parts, labels) / 400
    np.testing.assert_allclose(shares, [[0.5, 0.25, 0.125, 0.125]] * 40, atol=0.03)


def test_sizes_of_dirichlet_by_client_are_log_normal():
    labels = np.arange(100_000) % 5
    parts = split("dirichlet-client", Pool(labels), 500, sigma=0.6, min_samples=1)
    logs = np.log([len(rows) for rows in parts])
    assert logs.std() == pytest.approx(0.6, rel=0.1)
    # Skewed if it were not the logarithm that is normal.
    assert abs(((logs - logs.mean()) ** 3).mean()) < 0.05


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_sigma_is_checked(sigma):
    with pytest.raises(ConfigError, match="sigma must be 0 or positive"):
        split("dirichlet-client", Pool(np.zeros(50, int)), 2, sigma=sigma)


def test_quantity_by_dirichlet_is_as_unequal_as_asked_for():
    pool = Pool(np.arange(100_000) % 4)
    for beta in (0.5, 5.0):
        squares = []
        for seed in range(20):
            parts = split("quantity-dirichlet", pool, 50, seed, beta=beta)
            shares = np.array([len(rows) for rows in parts]) / 100_000
            squares.append((shares**2).sum())
        expected = (beta + 1) / (50 * beta + 1)
        assert np.mean(squares) == pytest.approx(expected, rel=0.1)


def test_quantity_by_power_law():
    pool = Pool(np.arange(100_000) % 4)
    parts = split("quantity-power", pool, 20, exponent=1.2)
    sizes = [len(rows) for rows in parts]
    weights = np.arange(1, 21) ** -1.2
    expected = 100_000 * weights / weights.sum()
    np.testing.assert_allclose(sorted(sizes, reverse=True), expected, atol=1)
    assert sizes != sorted(sizes)
    assert sizes != sorted(sizes, reverse=True)


def test_quantity_by_equal_steps_and_by_equal_ratios():
    pool = Pool(np.arange(100_000) % 4)
    weights = {
        "quantity-linear": np.arange(1.0, 21),
        "quantity-exponential": np.geomspace(1, 8, 20),
    }
    for name, shares in weights.items():
        options = {"ratio": 8.0} if name == "quantity-exponential" else {}
        sizes = [len(rows) for rows in split(name, pool, 20, **options)]
        expected = 100_000 * shares / shares.sum()
        np.testing.assert_allclose(sorted(sizes), expected, atol=1)
        assert sizes != sorted(sizes)
    assert [len(rows) for rows in split("quantity-exponential", pool, 1)] == [100_000]


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_targets_go_with_clients_as_they_are_correlated(correlation):
    rng = np.random.default_rng(2)
    values = 40 + 7 * rng.normal(size=20_000)
    pool = Pool(np.zeros(20_000, int), values=values)
    parts = split("continuous", pool, 50, correlation=correlation)
    assert {len(rows) for rows in parts} == {400}
    means = np.array([values[rows].mean() for rows in parts])
    # Of a normal variable, c^2 of the variance lies between such clients.
    between = means.var() / values.var()
    noise = (1 - correlation**2) / 400
    assert between == pytest.approx(correlation**2 + noise, abs=0.01)
    if correlation == 1:
        order = np.argsort(means)
        ends = [(values[parts[k]].min(), values[parts[k]].max()) for k in order]
        assert all(a[1] <= b[0] for a, b in pairwise(ends))
        assert (np.diff(means) < 0).any()


def test_without_targets_classes_count_and_groups_by_their_mean():
    labels = np.arange(1000) % 10
    parts = split("continuous", Pool(labels), 10, correlation=1.0)
    assert all(len(set(labels[rows].tolist())) == 1 for rows in parts)
    groups = np.arange(1000) // 50
    values = np.where(np.arange(1000) % 50 == 0, 1e3 * groups, groups)
    pool = Pool(labels, None, groups, values)
    found = split("continuous", pool, 20, correlation=1.0)
    assert all(len(set(groups[rows].tolist())) == 1 for rows in found)
    with pytest.raises(ConfigError, match="correlation must be from 0 to 1"):
        split("continuous", pool, 20, correlation=1.5)


def test_a_hybrid_hands_on_the_targets_of_its_parts():
    values = np.random.default_rng(3).normal(size=2000)
    parts = split(
        "hybrid",
        Pool(np.zeros(2000, int), values=values),
        10,
        first={"name": "iid"},
        second={"name": "continuous", "correlation": 1.0},
        share=0.1,
    )
    spreads = [values[rows].std() for rows in parts]
    assert np.mean(spreads) < 0.6  # a tenth of their samples are of any range


QUANTITY = [
    "quantity-dirichlet", "quantity-power", "quantity-linear", "quantity-exponential",
]  # fmt: skip


@pytest.mark.parametrize("name", QUANTITY)
def test_quantity_leaves_labels_alike(name):
    labels = np.arange(100_000) % 4
    counts = counts_of(split(name, Pool(labels), 20, min_samples=400), labels)
    shares = counts / counts.sum(axis=1, keepdims=True)
    deviation = np.abs(shares - 0.25) * np.sqrt(counts.sum(axis=1, keepdims=True))
    assert deviation.max() < 4 * np.sqrt(0.25 * 0.75)


# Two at once -----------------------------------------------------------------------


def test_hybrid_of_iid_and_shards_is_alike_in_its_share():
    labels = np.repeat(np.arange(10), 1000)
    parts = split(
        "hybrid",
        Pool(labels),
        10,
        first={"name": "iid"},
        second={"name": "shards", "labels": 1},
        share=0.2,
    )
    counts = counts_of(parts, labels)
    assert abs(counts.sum(axis=1) - 1000).max() < 100
    # One label has what shards gave and a tenth of what was assigned evenly.
    top = counts.max(axis=1) / counts.sum(axis=1)
    np.testing.assert_allclose(top, 0.8 + 0.02, atol=0.03)
    assert (np.sort(counts, axis=1)[:, 0] > 5).all()


@pytest.fixture
def user_module(monkeypatch):
    """A user's partitioner, which says that it moved three samples."""
    module = types.ModuleType("tests_of_hybrid")
    module.halves = lambda pool, m, rng: Parts(
        np.array_split(np.arange(len(pool.labels)), 2), moved=3
    )
    monkeypatch.setitem(sys.modules, "tests_of_hybrid", module)


def test_hybrid_counts_what_both_moved(user_module):
    halves = {"name": "tests_of_hybrid:halves"}
    pool = Pool(np.arange(400) % 2)
    assert split("hybrid", pool, 2, first=halves, second=halves).moved == 6
    assert split("hybrid", pool, 2, first=halves).moved == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.0}, "share must be above 0 and below 1"),
        ({"share": 1.0}, "share must be above 0 and below 1"),
        ({"share": 0.001}, r"partitioner.first: clients=4 .* cannot be made of 0"),
        (
            {"second": {"name": "official-dirichlet"}},
            "second makes overlapping",
        ),
        ({"first": {"name": "tests_of_hybrid:halves"}}, "makes 2 clients"),
    ],
)
def test_hybrid_that_can_not_be(changes, message, user_module):
    with pytest.raises(ConfigError, match=message):
        split("hybrid", Pool(np.arange(400) % 2), 4, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "first: missing"),
        ({"first": "iid", "second": "irid"}, r"partitioner.second: .* mean 'iid'"),
        (
            {"first": {"name": "shards", "label": 2}, "second": "iid"},
            r"partitioner.first 'shards': label: unknown key; did you mean 'labels'",
        ),
    ],
)
def test_partitioners_within_are_checked_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        plan("arrays", {"clients": 2, "partitioner": {"name": "hybrid", **options}})


def test_defaults_of_partitioners_within_are_filled_in():
    options = {"name": "hybrid", "first": "iid", "second": {"name": "shards"}}
    made = plan("arrays", {"clients": 2, "partitioner": options}).partitioner
    assert made["second"] == {"name": "shards", "labels": 2}
    assert made["share"] == 0.5
