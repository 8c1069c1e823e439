"""Splits keep samples and groups whole, and labels in proportion."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.label_skew import heterogeneity
from data_prep.partitioners import Pool
from data_prep.splits import choose, own_splits, random_splits, rows_of

fractions = st.sampled_from([(0.2, 0.0), (0.0, 0.0), (0.1, 0.3), (0.9, 0.05)])


@st.composite
def clients(draw):
    """Draw a pool given to some clients, maybe in groups."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number = sum(sizes)
    rows = rng.permutation(number)
    parts = [np.sort(part) for part in np.split(rows, np.cumsum(sizes)[:-1])]
    groups = None
    if draw(st.booleans()):
        groups = rng.integers(0, 4, number)
    return Pool(rng.integers(0, 3, number), None, groups), parts


def run(pool, parts, seed, fraction):
    test, val = fraction
    return random_splits(pool, parts, seed=seed, test=test, val=val)


@given(clients(), st.integers(0, 5), fractions)
def test_every_sample_is_in_one_split_of_its_client(made, seed, fraction):
    pool, parts = made
    splits = run(pool, parts, seed, fraction)
    assert list(splits) == ["train", "test", "val"][: 3 if fraction[1] else 2]
    for client, rows in enumerate(parts):
        got = [splits[name][client] for name in splits]
        assert sorted(np.concatenate(got)) == rows.tolist()
        assert all((np.diff(part) > 0).all() for part in got)
        assert len(got[0]) >= 1


@given(clients(), st.integers(0, 5), fractions)
def test_groups_never_straddle(made, seed, fraction):
    pool, parts = made
    if pool.groups is None:
        return
    for split_of in zip(*run(pool, parts, seed, fraction).values(), strict=True):
        seen = [set(pool.groups[rows].tolist()) for rows in split_of]
        assert sum(map(len, seen)) == len(set().union(*seen))


@given(clients(), st.integers(0, 5), fractions)
def test_same_seed_same_split_whatever_the_other_clients(made, seed, fraction):
    pool, parts = made
    full, alone = run(pool, parts, seed, fraction), run(pool, parts[:1], seed, fraction)
    for name in full:
        np.testing.assert_array_equal(full[name][0], alone[name][0])


def test_clients_draw_for_themselves():
    pool, parts = Pool(np.zeros(200, int)), [np.arange(100), np.arange(100, 200)]
    first, second = run(pool, parts, 0, (0.2, 0))["test"]
    assert first.tolist() != (second - 100).tolist()


def test_other_seed_other_split():
    pool, parts = Pool(np.zeros(100, int)), [np.arange(100)]
    first, second = (run(pool, parts, seed, (0.2, 0)) for seed in (0, 1))
    assert first["test"][0].tolist() != second["test"][0].tolist()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 9))
def test_labels_keep_their_share(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    codes = choose(
        labels,
        np.ones(len(labels), int),
        np.random.default_rng(seed),
        test=0.2,
        val=0.1,
    )
    for label, size in enumerate(sizes):
        # To within one, and the rounding of the whole.
        share = (codes == 1).sum() / len(labels)
        assert abs((codes[labels == label] == 1).sum() - share * size) <= 1
    if len(labels) >= 2:
        assert (codes == 1).sum() == min(
            max(1, round(0.2 * len(labels))), len(labels) - 1
        )


def test_every_unit_is_equally_likely():
    labels = np.repeat([0, 1, 2], [1, 3, 16])
    sizes = np.arange(20) + 1
    times = np.zeros(20)
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        times += choose(labels, sizes, rng, test=0.2, val=0.0) == 1
    # 4 of 20 in each of 2000 draws: 400 ± 5 standard deviations of 18.
    assert times.sum() == 4 * 2000
    assert (np.abs(times - 400) < 90).all()


def test_own_split_is_kept():
    codes = np.array([0, 1, 2, 0, 1, 0], np.int8)
    splits = own_splits(codes, [np.array([0, 1, 2]), np.array([3, 4, 5])])
    assert [rows.tolist() for rows in splits["train"]] == [[0], [3, 5]]
    assert [rows.tolist() for rows in splits["test"]] == [[1], [4]]
    assert [rows.tolist() for rows in splits["val"]] == [[2], []]
    assert list(own_splits(codes[:1], [np.array([0])])) == ["train", "test"]


def test_heterogeneity_of_known_cases():
    alike = heterogeneity(np.array([[10, 10], [5, 5]]))
    np.testing.assert_allclose(alike, (0, 0, 2), atol=1e-7)
    apart = heterogeneity(np.array([[8, 0], [0, 8], [0, 0]]))
    # Half of a client's mass is elsewhere; JS divergence of (1, 0) and (1/2, 1/2).
    divergence = 0.75 * np.log2(4 / 3) + 0.25 * np.log2(4) - 0.5
    np.testing.assert_allclose(apart, (np.sqrt(divergence), 0.5, 1))
    assert heterogeneity(np.zeros((2, 3), int)) == (0, 0, 0)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=4))
def test_rows_of_parts_are_each_there_once(parts):
    rows = rows_of([np.array(part, np.int64) for part in parts], 10)
    assert rows.tolist() == sorted(set().union(*parts))
