"""Columns of very different spread are named, and can be put into pooled units."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep.column_scales import unscaled
from data_prep.shifts import Clients, shifts
from fedapm_mpi.data.table import Table, column, iter_blocks
from fedapm_mpi.errors import DataError
from tests.support import ROOT
from tests.support.preparation import everyone, prepare

HEART = ROOT.parent / "shared" / "data" / "heart_hospitals" / "heart.csv"
N, M = 600, 5


def held(seed=0):
    rng = np.random.default_rng(seed)
    return Clients(M, rng.integers(0, M, N), rng.random(N) < 0.7, seed)


def table(*columns):
    return Table("made", list(columns), np.zeros(N, np.int64), ("only",))


def pooled(columns, clients=None):
    clients = clients or held()
    after = shifts.get("standardise")(table(*columns), clients, over="pooled").table
    return [np.concatenate(list(iter_blocks(c, np.arange(N)))) for c in after.columns]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_units_of_all_training_samples(dtype, shape):
    rng = np.random.default_rng(1)
    x = (rng.random((N, *shape)) * 200).astype(dtype)
    clients = held()
    (found,) = pooled([column("x", x, scale=0.5, shift=-3.0)], clients)
    seen = x.astype(np.float64) * 0.5 - 3.0
    own = seen[clients.training]
    expected = (seen - own.mean(axis=0)) / own.std(axis=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[clients.training].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found[clients.training].std(axis=0), 1, rtol=1e-5)


def test_steps_beyond_a_length_do_not_count():
    rng = np.random.default_rng(2)
    x, lengths = rng.normal(5, 3, (N, 7, 2)), rng.integers(1, 8, N)
    inside = np.arange(7) < lengths[:, None]
    x[~inside] = 1e9
    clients = held()
    (found,) = pooled([column("x", x, lengths=lengths)], clients)
    own = x[clients.training][inside[clients.training]]
    expected = (x - own.mean(axis=0)) / own.std(axis=0)
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-5, atol=1e-5)
    assert not found[~inside].any()


@pytest.mark.parametrize("offset", [1e6, 1e9, -1e12])
def test_a_small_spread_around_a_large_value(offset):
    rng = np.random.default_rng(3)
    x = offset + rng.integers(0, 9, (N, 1)).astype(np.float64)
    clients = held()
    (found,) = pooled([column("x", x)], clients)
    centred = x - offset
    own = centred[clients.training]
    np.testing.assert_allclose(
        found, (centred - own.mean()) / own.std(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, 1e15, -3e-9])
def test_constant_columns_become_0_and_no_giants(value):
    clients = held()
    x = np.full((N, 2), value)
    x[:, 1] = np.arange(N)
    row = np.flatnonzero(~clients.training)[0]
    x[row, 0] = value + 2  # only outside of training
    (found,) = pooled([column("x", x)], clients)
    others = np.arange(N) != row
    assert not found[others, 0].any()
    assert found[row, 0] == pytest.approx(2, rel=1e-6)


def test_what_is_outside_of_training_has_no_part_in_it():
    rng = np.random.default_rng(4)
    x, clients = rng.normal(size=(N, 3)), held()
    other = x.copy()
    other[~clients.training] *= 1000
    (a,) = pooled([column("x", x)], clients)
    (b,) = pooled([column("x", other)], clients)
    np.testing.assert_array_equal(a[clients.training], b[clients.training])


def test_blocks_of_any_size_agree(monkeypatch):
    from data_prep.shifts import standardise

    rng = np.random.default_rng(5)
    x = rng.normal(100, 1, (N, 3))
    (whole,) = pooled([column("x", x)])
    monkeypatch.setattr(standardise, "BLOCK_BYTES", 500)
    (cut,) = pooled([column("x", x)])
    np.testing.assert_allclose(cut, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("over", ["pooled", "train", "all"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_sample_that_is_not_finite_is_named(over, bad):
    x = np.zeros((N, 2))
    clients = held()
    row = np.flatnonzero(clients.training)[20]
    x[row, 1] = bad
    with pytest.raises(DataError, match=f"input 'x' of sample {row} is NaN or inf"):
        shifts.get("standardise")(table(column("x", x)), clients, over=over)


def test_values_whose_squares_overflow_are_refused():
    for large in (1e200, 1.7e308):
        x = np.where(np.arange(N) % 2, large, large / 2)[:, None]
        with pytest.raises(DataError, match="too large for a mean"):
            pooled([column("x", x)])


# Notes -------------------------------------------------------------------------------


def note(*columns):
    found = unscaled(table(*columns), [np.arange(0, N, 2), np.arange(1, N, 2)])
    assert len(found) <= 1
    return found[0] if found else ""


def normal(*spreads, seed=0):
    return np.random.default_rng(seed).normal(size=(N, len(spreads))) * spreads


@pytest.mark.parametrize(
    ("spreads", "named"),
    [
        ((0.8, 1, 300), "x[2]"),
        ((1, 600, 600), "x[1]"),
        ((0.001, 1, 1, 1, 1, 1), "x[1]"),
        ((1, 40, 60), ""),
        ((1,), ""),
        ((1e3, 1e3), ""),
    ],
)
def test_columns_that_vary_a_hundred_times_as_much(spreads, named):
    found = note(column("x", normal(*spreads)))
    assert bool(found) == bool(named)
    assert named in found
    if named:
        assert "x[0]" in found.split("100 times that of")[named != "x[0]"]
        assert "shift=standardise shift.over=pooled" in found


def test_values_that_are_0_as_floats_of_32_bits_have_no_spread():
    assert not note(column("x", normal(1, 1, 1) * 1e-300))


def test_columns_of_several_inputs():
    found = note(column("age", normal(9)[:, 0]), column("dose", normal(0.05)[:, 0]))
    assert found.startswith("the spread of age (")
    assert "that of dose (" in found


def test_many_columns_are_counted():
    found = note(column("x", normal(*[1] * 4, *[500] * 8)))
    assert "x[4]" in found
    assert "and" in found
    assert "3 more" in found


@pytest.mark.parametrize(
    "made",
    [
        column("x", np.full((N, 2), 0.1)),  # constants, but for rounding
        column("x", np.c_[normal(1), np.arange(N) == 5]),  # a rare yes
        column("x", normal(1, 500)[:, None]),  # a series
        column("x", np.zeros((N, 2, 2), np.uint8)),
        column("x", normal(1, 500), lengths=np.full(N, 2)),
    ],
)
def test_what_is_no_reason_for_a_note(made):
    assert note(made) == ""


def test_units_as_a_model_sees_them():
    wide = column("b", normal(500.0)[:, 0], scale=0.002)
    assert note(column("a", normal(1.0)[:, 0]), wide) == ""
    assert note(column("a", normal(1.0)[:, 0]), replace(wide, spec=replace(
        wide.spec, scale=1.0))) != ""  # fmt: skip


def test_many_values_are_looked_at_in_bounded_room():
    asked = []

    def take(rows):
        asked.append(len(rows))
        return np.zeros((len(rows), 2**20), np.uint8)

    spec = replace(column("x", np.zeros((1, 2**20), np.uint8)).spec)
    made = replace(column("x", np.zeros((1, 2))), spec=spec, fetch=take)
    unscaled(table(made), [np.arange(N)])
    assert asked == [4]


def written(tmp_path, x, **more):
    path = tmp_path / "made.npz"
    np.savez(path, x_a=x, y=np.arange(N) % 2, client=np.arange(N) % M, **more)
    return path


def test_the_offer_leads_to_what_it_says(tmp_path, capsys):
    rng = np.random.default_rng(6)
    x = np.c_[rng.integers(0, 600, N), rng.random(N)]
    path = written(tmp_path, x, split=np.where(np.arange(N) // M % 5 == 0, 1, 0))
    prepare("arrays", path, tmp_path / "raw")
    assert "note: the spread of a[0] (1" in capsys.readouterr().out
    manifest = prepare(
        "arrays", path, tmp_path / "to", "shift=standardise", "shift.over=pooled"
    )
    out = capsys.readouterr().out
    assert "note:" not in out
    assert "shift          standardise (over=pooled, inputs=None)" in out
    train = np.concatenate([h.inputs["a"] for h in everyone(manifest)["train"]])
    test = np.concatenate([h.inputs["a"] for h in everyone(manifest)["test"]])
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-5)
    assert np.abs(test.mean(axis=0)).min() > 1e-4  # it was not looked at


@pytest.mark.skipif(not HEART.exists(), reason="no shared/data/heart_hospitals")
def test_a_table_of_four_hospitals(tmp_path, capsys):
    rows = np.genfromtxt(HEART, delimiter=",", names=True, dtype=None, encoding="utf-8")
    names = [n for n in rows.dtype.names if n not in ("hospital", "num")]
    x = np.array([[float(row[n]) for n in names] for row in rows])
    x = np.where(np.isfinite(x), x, np.nanmean(x, axis=0))
    path = tmp_path / "heart.npz"
    np.savez(path, x_f=x, y=(rows["num"] > 0).astype(int), client=rows["hospital"])
    prepare("arrays", path, tmp_path / "to")
    chol = names.index("chol")
    assert f"note: the spread of f[{chol}] (1" in capsys.readouterr().out
