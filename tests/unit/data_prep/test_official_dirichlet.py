"""Clients that overlap: how they are drawn, checked, split, written and shown."""

import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.partitioners import Parts, Pool, partitioners
from data_prep.pipeline import plan, prepare
from data_prep.splits import official_splits, random_splits
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.data.reader import ShardReader, verify_checksums
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import command

CIFAR = Pool(np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000)))


def draw(pool, m, seed=0, **options):
    rng = np.random.default_rng(seed)
    return partitioners.get("official-dirichlet")(pool, m, rng, **options)


def cells(pool, parts):
    """Return how many samples of each class each client has, (m, classes)."""
    width = int(pool.labels.max()) + 1
    return np.array([np.bincount(pool.labels[r], minlength=width) for r in parts])


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    m=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_distinct_within_a_client_and_the_shares_add_up(sizes, m, seed):
    pool = Pool(np.repeat(np.arange(len(sizes)), sizes))
    try:
        parts = draw(pool, m, seed, beta=1.0)
    except ConfigError as error:
        assert "fewer than" in str(error) or "cannot be made" in str(error)  # noqa: PT017
        return
    assert len(parts) == m
    for rows in parts:
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
        assert 0 <= rows.min() <= rows.max() < len(pool.labels)
    # Each of m shares is rounded down, by less than 1.
    given_away = cells(pool, parts).sum(axis=0)
    assert (given_away <= sizes).all()
    assert (given_away > np.array(sizes) - m).all()


@pytest.mark.parametrize("seed", [4, 5, 6, 7, 8])
def test_overlaps_as_much_as_independent_draws_of_the_published_sizes(seed):
    parts = draw(CIFAR, 20, seed)
    owners = np.bincount(np.concatenate(parts), minlength=60_000)
    assert 59_850 < owners.sum() < 59_950
    assert 38_700 < (owners > 0).sum() < 40_700
    counts = cells(CIFAR, parts)
    sizes = counts.sum(axis=1)
    assert 600 < sizes.min() < 1700
    assert 2300 < np.median(sizes) < 3400
    assert 4300 < sizes.max() < 7000
    # Client i misses a sample of class c with probability 1 - k_ic / n_c, whatever the
    # others do. The number of missed ones varies less than if samples were independent.
    missed = np.prod(1 - counts / 6000, axis=0)
    expected = 6000 * (1 - missed).sum()
    deviation = np.sqrt(6000 * (missed * (1 - missed)).sum())
    assert abs((owners > 0).sum() - expected) < 4 * deviation


def test_every_two_clients_share_what_chance_makes_them_share():
    parts = draw(CIFAR, 6, 1)
    counts = cells(CIFAR, parts)
    for i, j in combinations(range(6), 2):
        common = len(np.intersect1d(parts[i], parts[j]))
        share_i, share_j = counts[i] / 6000, counts[j] / 6000
        mean = 6000 * (share_i * share_j).sum()
        # Of the hypergeometric distribution.
        variance = (6000 * share_i * share_j * (1 - share_i) * (1 - share_j)).sum()
        assert abs(common - mean) < 4.5 * np.sqrt(variance)


def test_shares_have_the_dirichlet_moments():
    pool = Pool(np.arange(300_000) % 3)
    shares = np.array(
        [cells(pool, draw(pool, 4, s, beta=0.5))[:, 0] for s in range(80)]
    )
    # Dir(0.5 * 1_4): mean 1/4, variance (1/4)(3/4) / (2 + 1).
    assert abs(shares.mean() / 1e5 - 0.25) < 1e-4
    assert abs((shares / 1e5).var() / (1 / 16) - 1) < 0.25


def test_same_seed_same_parts_other_seed_other_parts():
    pool = Pool(np.arange(300) % 3)
    first, second, other = (draw(pool, 3, seed) for seed in (7, 7, 8))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(a.tolist() != b.tolist() for a, b in zip(first, other, strict=True))


def test_one_client_gets_everything():
    (rows,) = draw(Pool(np.arange(30) % 3), 1)
    assert rows.tolist() == list(range(30))


PLAIN, GROUPED = Pool(np.zeros(50, int)), Pool(np.zeros(4, int), None, np.arange(4))


@pytest.mark.parametrize(
    ("pool", "m", "options", "message"),
    [
        (PLAIN, 2, {"beta": 0.0}, "beta must be positive"),
        (PLAIN, 2, {"beta": float("nan")}, "beta must be positive"),
        (PLAIN, 2, {"beta": float("inf")}, "beta must be positive"),
        (PLAIN, None, {}, "give their number by clients=N"),
        (PLAIN, 0, {}, "clients=0"),
        (PLAIN, 51, {}, "cannot be made of 50 samples"),
        (PLAIN, 5, {"beta": 0.01}, "client 0 has 0 samples, fewer than"),
        (PLAIN, 3, {"min_samples": 16}, "fewer than min_samples=16;"),
        (GROUPED, 2, {}, "cannot keep groups"),
    ],
)
def test_what_cannot_be(pool, m, options, message):
    with pytest.raises(ConfigError, match=message):
        draw(pool, m, **options)


OVERLAPPING = [np.arange(0, 40), np.arange(20, 60), np.arange(30, 35)]


def test_a_client_is_split_for_itself_whatever_overlaps():
    pool = Pool(np.arange(80) % 4)
    whole = random_splits(pool, OVERLAPPING, seed=1, test=0.25, val=0.25)
    for client, rows in enumerate(OVERLAPPING):
        held = [whole[name][client] for name in ("train", "test", "val")]
        assert sorted(np.concatenate(held)) == rows.tolist()
        # With the others out of the way: moved to samples that no other client has.
        alone = [np.arange(0)] * client + [rows]
        apart = random_splits(pool, alone, seed=1, test=0.25, val=0.25)
        for name, parts in whole.items():
            np.testing.assert_array_equal(parts[client], apart[name][client])
    assert np.intersect1d(whole["train"][0], whole["test"][1]).size


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_the_official_cut_loses_one_sample(sizes):
    parts = [np.sort(np.random.default_rng(n).permutation(90)[:n]) for n in sizes]
    splits = official_splits(parts, seed=3, test=0.2)
    assert list(splits) == ["train", "test"]
    for rows, train, test in zip(parts, *splits.values(), strict=True):
        n = len(rows)
        assert len(train) == 8 * n // 10
        assert len(test) == n - 8 * n // 10 - 1
        both = np.concatenate([train, test])
        assert len(np.unique(both)) == n - 1
        assert np.isin(both, rows).all()
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()


def test_the_official_cut_shuffles_each_client_with_the_seed():
    parts = [np.arange(100)] * 2
    (a, b), (again, _), (other, _) = (
        official_splits(parts, seed=seed, test=0.2)["test"] for seed in (1, 1, 2)
    )
    assert a.tolist() == again.tolist()
    assert len({tuple(rows.tolist()) for rows in (a, b, other)}) == 3
    assert abs(a.mean() - 49.5) < 20


N = 240
OFFICIAL = {"name": "official-dirichlet", "beta": 1.0}
ASKED = {"clients": 4, "seed": 3, "partitioner": OFFICIAL}


@pytest.fixture
def origin(tmp_path):
    """Make a source in which a sample's number follows from its input."""
    path = tmp_path / "made.npz"
    np.savez(
        path,
        x_number=np.arange(N)[:, None],
        y=np.arange(N) % 3,
        client=np.arange(N) // 120,
        segment=np.arange(N) // 4,
        split=np.arange(N) % 2,
    )
    return path


def held(manifest):
    """Return split name to the numbers of each client's samples, and check labels."""
    reader = ShardReader(manifest)
    found = {}
    for split in manifest.counts:
        found[split] = []
        for client in range(manifest.num_clients):
            arrays = reader.read(client, split)
            numbers = arrays.inputs["number"][:, 0]
            np.testing.assert_array_equal(arrays.labels, numbers % 3)
            found[split].append(numbers.tolist())
    reader.close()
    return found


EXTRA = [
    {"split": "random"},
    {"split": "random", "val": 0.1},
    {"split": "own"},
    {"split": "official"},
    {"split": "random", "shards": 3},
]


@pytest.mark.parametrize("extra", EXTRA, ids=str)
def test_prepares_overlapping_clients(origin, tmp_path, extra):
    wanted = plan("arrays", ASKED | extra)
    manifest, _ = prepare(wanted, origin, tmp_path / "to")
    verify_checksums(manifest)
    assert prepare(wanted, origin, tmp_path / "again")[0].sha256 == manifest.sha256
    found = held(manifest)
    entry = manifest.partitioner
    assert entry["overlapping"] is True
    everything = []
    for client in range(4):
        numbers = [n for parts in found.values() for n in parts[client]]
        assert len(set(numbers)) == len(numbers)
        everything += numbers
        if extra.get("split") == "own":
            assert not any(n % 2 for n in found["train"][client])
    if extra.get("split") != "official":
        assert entry["distinct"] == len(set(everything)) < N
    if extra.get("split") != "own":
        assert set(found["train"][0]) & {n for part in found["test"] for n in part}
    assert manifest.client_names == tuple(f"client {i}" for i in range(4))
    counts = sum(manifest.label_counts.values()).sum(axis=1)
    assert counts.sum() == len(everything)


def test_a_partition_says_nothing_of_overlap(origin, tmp_path):
    values = ASKED | {"partitioner": {"name": "dirichlet"}}
    manifest, _ = prepare(plan("arrays", values), origin, tmp_path / "to")
    assert manifest.partitioner.keys() == {"name", "beta", "min_samples", "moved"}


def test_inspect_shows_it(origin, tmp_path, capsys):
    manifest, _ = prepare(plan("arrays", ASKED), origin, tmp_path / "to")
    command(inspect_command, tmp_path / "to")
    out = capsys.readouterr().out
    assert f"overlapping=True, distinct={manifest.partitioner['distinct']})" in out
    assert f"{manifest.counts['train'].sum()} samples; of a client" in out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"group": "segment"}, "cannot keep groups together"),
        ({"group": "segment", "split": "official", "partitioner": "iid"}, "through gr"),
        ({"split": "official", "val": 0.1}, "split=official makes no val part"),
    ],
)
def test_combinations_that_cannot_be(origin, tmp_path, extra, message):
    with pytest.raises(ConfigError, match=message):
        prepare(plan("arrays", ASKED | extra), origin, tmp_path / "to")


def own_partitioner(pool, num_clients, rng, *, what: str, overlapping: bool = True):
    """Give samples away as asked, as a user's own part may."""
    clients = {
        "fine": [np.arange(9), np.arange(6, 15)],
        "twice": [np.arange(9), np.array([4, 5, 5])],
        "far": [np.arange(9), np.array([0, N])],
        "before": [np.arange(9), np.array([-1, 0])],
        "none": [],
    }[what]
    return Parts(clients, overlapping=overlapping)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"what": "twice"}, "gave sample 5 to client 1 more than once"),
        ({"what": "far"}, f"gave client 1 sample {N}, but there are only {N}"),
        ({"what": "before"}, "gave client 1 sample -1"),
        ({"what": "none"}, "gave no clients"),
        ({"what": "fine", "overlapping": False}, "sample 6 to 2 clients; each of the"),
        ({"what": "fine"}, None),
    ],
)
def test_a_users_own_that_overlaps(origin, tmp_path, monkeypatch, options, message):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    chosen = {"name": "mine:own_partitioner", **options}
    wanted = plan("arrays", {"partitioner": chosen})
    if message is None:
        manifest, _ = prepare(wanted, origin, tmp_path / "to")
        assert sum(manifest.counts.values()).tolist() == [9, 9]
        assert manifest.partitioner["distinct"] == 15
        # Both hold some of the source's first client, and neither holds all of it.
        assert manifest.client_names == ("client 0", "client 1")
        return
    with pytest.raises(DataError, match=message):
        prepare(wanted, origin, tmp_path / "to")
