"""Inputs of floating type in less space: how far values move, and what is refused."""

import numpy as np
import pytest
import torch

from data_prep.pipeline import plan, prepare
from fedapm_mpi.data import table as table_module
from fedapm_mpi.data.number_types import LARGEST_BFLOAT16, pairs
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import to_samples
from fedapm_mpi.data.stored_types import cast_storage
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError

N = 40
RNG = np.random.default_rng(3)
X = RNG.normal(size=(N, 5)).astype(np.float32)
SPLITS = {"train": [np.arange(20), np.arange(20, 30)], "test": [np.arange(30, 40)] * 2}


def table(*columns):
    return Table("t", columns, np.arange(N) % 2, ["a", "b"])


def seen(made, tmp_path, dtype=torch.float64):
    """Return what a model sees of the training samples, and how they are stored."""
    manifest = write_dataset(tmp_path / "d", made, SPLITS)
    reader = ShardReader(manifest)
    found = [
        to_samples(reader.read(i, "train"), manifest.inputs, dtype).inputs
        for i in range(2)
    ]
    reader.close()
    return [torch.cat(own).numpy() for own in zip(*found, strict=True)], manifest


def test_values_that_half_precision_can_not_hold():
    x = np.array([[65504.0], [65520.0]], np.float32)
    made = cast_storage(Table("t", [column("x", x)], np.zeros(2), ["a"]), "float16")
    (c,) = made.table.columns
    assert c.fetch(np.array([0])).dtype == np.float16
    with pytest.raises(DataError, match="leave out store=float16"):
        c.fetch(np.array([0, 1]))


def test_bfloat16_is_seen_as_torch_rounds(tmp_path):
    made = cast_storage(table(column("x", X)), "bfloat16").table
    (x,), manifest = seen(made, tmp_path, torch.float32)
    rounded = torch.from_numpy(X).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(x, rounded[:30])
    (spec,) = manifest.inputs
    assert (spec.dtype, spec.stored_type, spec.stored_bytes) == ("bfloat16", "<u2", 10)
    assert manifest.schema_version == 2


def test_bfloat16_with_a_scale_and_a_shift(tmp_path):
    made = cast_storage(table(column("x", X, scale=3.0, shift=-1.0)), "bfloat16").table
    (x,), _ = seen(made, tmp_path)
    rounded = torch.from_numpy(X).to(torch.bfloat16).double().numpy()
    np.testing.assert_array_equal(x, (rounded * 3 - 1)[:30])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_only_what_rounds_to_infinity_is_beyond_bfloat16(dtype):
    tie = (2 - 2.0**-8) * 2.0**127  # between the largest and what would be next
    below = np.nextafter(dtype(tie), dtype(0))
    x = np.array([[LARGEST_BFLOAT16], [np.float32(below)], [-tie]], dtype)
    made = cast_storage(Table("t", [column("x", x)], np.zeros(3), ["a"]), "bfloat16")
    (c,) = made.table.columns
    largest = c.fetch(np.array([0]))
    assert largest.tolist() == [[0x7F7F]]
    if dtype is np.float32:
        assert c.fetch(np.array([1])).tolist() == [[0x7F7F]]
    with pytest.raises(DataError, match=r"beyond 3.38953e\+38, .* store=bfloat16"):
        c.fetch(np.array([2]))


def test_what_is_stored_as_bfloat16_can_be_stored_otherwise(tmp_path):
    half = cast_storage(table(column("x", X)), "bfloat16").table
    rounded = torch.from_numpy(X).to(torch.bfloat16).float().numpy()[:30]
    for store in ("float32", "bfloat16"):
        (x,), _ = seen(cast_storage(half, store).table, tmp_path / store, torch.float32)
        np.testing.assert_array_equal(x, rounded)


def test_int8_is_within_half_a_scale(tmp_path):
    z = (X + 1j * X[::-1]).astype(np.complex64) * 1e-3
    given = table(
        column("x", X.astype(np.float64), scale=0.5, shift=2.0),
        column("z", z),
        column("codes", np.arange(N) % 3, codes=3),
        column("steps", np.arange(N, dtype=np.int16), scale=0.1),
        column("nothing", np.zeros((N, 2), np.float16)),
    )
    made = cast_storage(given, "int8")
    assert made.notes == []
    (x, z_seen, codes, steps, nothing), manifest = seen(made.table, tmp_path)
    specs = {spec.name: spec for spec in manifest.inputs}
    kinds = {name: spec.dtype for name, spec in specs.items()}
    assert kinds == {"x": "int8", "z": "int8", "codes": "int64", "steps": "int16",
                     "nothing": "int8"}  # fmt: skip
    assert specs["x"].scale == 0.5 * float(np.abs(X).max()) / 127
    most = specs["x"].scale / 2 * (1 + 1e-12)
    assert np.abs(x - (X * 0.5 + 2)[:30]).max() <= most
    assert np.abs(x - (X * 0.5 + 2)[:30]).max() > most / 2  # no smaller bound holds
    for part in (np.real, np.imag):
        assert (
            np.abs(part(z_seen) - part(z[:30])).max() <= specs["z"].scale / 2 * 1.0001
        )
    assert specs["z"].scale == pytest.approx(np.abs(pairs(z)).max() / 127)
    assert codes.tolist() == (np.arange(30) % 3).tolist()
    np.testing.assert_allclose(steps, np.arange(30) * 0.1)
    assert (nothing == 0).all()


def test_int8_reaches_both_ends_and_nothing_else(tmp_path):
    x = np.array([-2.0, 2.0, 1.0, 0.5] * 10)
    (c,) = cast_storage(table(column("x", x)), "int8").table.columns
    assert c.fetch(np.arange(4)).tolist() == [-127, 127, 64, 32]  # 63.5, ties to even


def test_int8_of_very_small_numbers():
    x = np.full(N, 5e-324)
    (c,) = cast_storage(table(column("x", x)), "int8").table.columns
    assert c.spec.scale > 0
    assert abs(int(c.fetch(np.array([0]))[0]) * c.spec.scale - 5e-324) <= c.spec.scale


def test_int8_of_what_has_no_scale_is_refused():
    with pytest.raises(DataError, match=r"its scale would be .*; leave out store=int8"):
        cast_storage(table(column("x", np.full(N, 1e-300), scale=1e-300)), "int8")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_int8_of_what_is_not_finite_is_refused(value):
    x = X.copy()
    x[7, 2] = value
    with pytest.raises(DataError, match=r"NaN or infinite in 1 of 40 .* sample 7 at"):
        cast_storage(table(column("x", x)), "int8")


def test_values_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr(table_module, "BLOCK_BYTES", 4 * X[0].nbytes)
    sizes = []

    def fetch(rows):
        sizes.append(len(rows))
        return X[rows]

    given = table(table_module.Column(column("x", X).spec, fetch))
    cast_storage(given, "int8")
    assert max(sizes) == 4
    assert sum(sizes) == N


def test_what_new_clients_have_beyond_others_is_noted(tmp_path):
    x = np.ones((N, 1), np.float32)
    x[35] = 4
    old, new = np.arange(30), np.arange(30, 40)
    made = cast_storage(table(column("x", x)), "int8", old, new)
    assert made.notes == ["input 'x': new clients have values up to 4, which are "
                          "stored as 1, the largest of other clients"]  # fmt: skip
    assert made.table.columns[0].fetch(np.array([35])).tolist() == [[127]]
    assert cast_storage(table(column("x", x)), "int8", new, old).notes == []


def test_scales_follow_from_what_is_written(tmp_path):
    """What a client leaves out, and new clients, do not count."""
    x = np.ones((N, 2), np.float32)
    client = np.repeat(["a", "b", "c", "d"], 10)
    x[35] = 8  # of a new client
    np.savez(tmp_path / "raw.npz", x_x=x, y=np.arange(N) % 2, client=client)
    noted = []
    manifest, _ = prepare(
        plan("arrays", {"store": "int8", "new_clients": ["d"]}),
        tmp_path / "raw.npz",
        tmp_path / "d",
        tell=noted.append,
    )
    assert manifest.inputs[0].scale == 1 / 127
    assert any("new clients have values up to 8" in note for note in noted)
    assert manifest.schema_version == 1  # as any input of integers with a scale


def test_integers_with_a_scale_of_their_own(tmp_path):
    x = RNG.integers(-128, 128, (N, 3)).astype(np.int8)
    np.savez(tmp_path / "raw.npz", x_a=x, a_scale=0.25, y=np.arange(N) % 2,
             client=np.zeros(N))  # fmt: skip
    wanted = plan("arrays", {"store": "int8"})
    manifest, _ = prepare(wanted, tmp_path / "raw.npz", tmp_path / "d")
    (spec,) = manifest.inputs
    assert (spec.dtype, spec.scale) == ("int8", 0.25)
    reader = ShardReader(manifest)
    found = to_samples(reader.read(0, "train"), manifest.inputs, torch.float32)
    rows = reader.rows(0, "train")
    np.testing.assert_array_equal(found.inputs[0], x[rows] * np.float32(0.25))
