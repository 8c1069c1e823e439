import numpy as np
import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import client_ranks, placements
from fedapm_mpi.utils.rng import generator


def choose(name: str, m: int, key: int = 0, **options):
    part = participation.get(name)(**options)
    part.check(m)
    return part.choose(m, generator(0, "participants", key))


@pytest.mark.parametrize(
    ("fraction", "m", "count"),
    [(0.3, 20, 6), (0.29, 100, 29), (0.1, 72, 7), (0.01, 20, 1), (1.0, 7, 7)],
)
def test_a_fraction_is_rounded_down_but_never_to_none(fraction, m, count):
    assert len(choose("random", m, fraction=fraction)) == count


@pytest.mark.parametrize(
    ("name", "options"),
    [("random", {"count": 5}), ("full", {}), ("probability", {"probability": 0.4})],
)
def test_choices_are_ascending_distinct_and_repeatable(name, options):
    for key in range(20):
        chosen = choose(name, 12, key, **options)
        assert (np.diff(chosen) > 0).all()
        assert set(chosen.tolist()) <= set(range(12))
        assert (choose(name, 12, key, **options) == chosen).all()


def test_every_client_is_chosen_equally_often():
    hits = np.zeros(10)
    for key in range(3000):
        hits[choose("random", 10, key, count=3)] += 1
    expected = 3000 * 0.3
    # Five standard deviations of a binomial count.
    assert np.abs(hits - expected).max() < 5 * np.sqrt(expected * 0.7)


def test_each_client_can_have_a_probability_of_its_own():
    probability = [0.0, 0.2, 0.5, 1.0]
    hits = np.zeros(4)
    for key in range(2000):
        hits[choose("probability", 4, key, probability=probability)] += 1
    assert hits[0] == 0
    assert hits[3] == 2000
    assert abs(hits[1] / 2000 - 0.2) < 0.05
    assert abs(hits[2] / 2000 - 0.5) < 0.06


def test_what_does_not_fit_the_clients_is_refused():
    with pytest.raises(ConfigError, match="only 4 clients"):
        choose("random", 4, count=5)
    with pytest.raises(ConfigError, match="lists 2 values"):
        choose("probability", 4, probability=[0.1, 0.2])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random", {}),
        ("random", {"fraction": 0.0}),
        ("random", {"fraction": 0.5, "count": 2}),
        ("random", {"count": 0}),
        ("probability", {"probability": 1.5}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(ValueError, match=r"must be|exactly one"):
        participation.get(name)(**options)


@pytest.mark.parametrize("name", placements.names())
@pytest.mark.parametrize(("m", "ranks"), [(1, 1), (5, 2), (20, 7), (3, 8)])
def test_every_client_gets_a_host(name, m, ranks):
    placed = placements.get(name)(np.arange(m, dtype=np.int64), ranks)
    assert placed.shape == (m,)
    assert ((placed >= 0) & (placed < ranks)).all()
    counts = np.bincount(placed, minlength=ranks)
    if name != "cost":
        assert counts.max() - counts.min() <= 1


def test_cost_balances_better_than_blocks():
    costs = np.array([600, 10, 500, 20, 100, 400, 30, 200], dtype=np.int64)

    def busiest(name: str) -> float:
        placed = placements.get(name)(costs, 3)
        return np.bincount(placed, weights=costs).max()

    assert busiest("cost") == 630  # the largest client and the fitting crumb
    assert busiest("contiguous") > 1000


def test_the_server_hosts_only_when_alone():
    assert list(client_ranks(1)) == [0]
    assert list(client_ranks(4)) == [1, 2, 3]
