"""Complex and bfloat16 values from every source, and what shifts do with them."""

import re

import numpy as np
import pytest
import torch

from data_prep import Sample, write_samples, write_torch_dataset
from data_prep.column_scales import unscaled
from data_prep.pipeline import plan, prepare
from data_prep.shifts import Clients, shifts
from fedapm_mpi.data.held_columns import blank, is_blank
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.number_types import from_bfloat16, to_bfloat16
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import to_samples
from fedapm_mpi.data.table import Column, Table, column
from fedapm_mpi.data.verify import verify
from fedapm_mpi.errors import ConfigError, DataError

N = 24
RNG = np.random.default_rng(4)
Z = RNG.normal(size=(N, 5, 2)) + 1j * RNG.normal(size=(N, 5, 2))


def seen(manifest, split="train", dtype=torch.float64):
    """Return what a model sees of all clients, in the order of the source."""
    reader = ShardReader(manifest)
    clients = range(manifest.num_clients)
    parts = [to_samples(reader.read(i, split), manifest.inputs, dtype) for i in clients]
    rows = np.concatenate([reader.rows(i, split) for i in clients])
    reader.close()
    order = torch.from_numpy(np.argsort(rows))
    joined = zip(*(part.inputs for part in parts), strict=True)
    return [torch.cat(own)[order] for own in joined], np.sort(rows)


def archive(path, **more):
    given = {"x_z": Z, "y": np.arange(N) % 2, "client": np.arange(N) % 3}
    np.savez(path, **(given | more))
    return path


def made(path, directory, **options):
    return prepare(plan("arrays", options), path, directory)[0]


# The source `arrays` -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["c8", ">c8", "c16"])
def test_an_archive_of_complex_numbers(tmp_path, kind):
    z = Z.astype(kind)
    path = archive(tmp_path / "a.npz", x_z=z, z_scale=2.0, length=np.arange(N) % 5 + 1)
    manifest = made(path, tmp_path / "d")
    (spec,) = manifest.inputs
    parts = f"float{4 * np.dtype(kind).itemsize}"
    assert (spec.shape, spec.dtype, spec.ragged) == ((5, 2), parts, True)
    assert (spec.complex, spec.scale) == (True, 2.0)
    (found,), rows = seen(manifest)
    np.testing.assert_array_equal(found.numpy(), 2 * z[rows])


def test_a_folder_and_less_space(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, values in {"x_z": Z[:, 0, 0], "y": np.arange(N) % 2}.items():
        np.save(folder / name, values)
    options = {"partitioner": "iid", "clients": 2, "store": "float32"}
    manifest = made(folder, tmp_path / "d", **options)
    (spec,) = manifest.inputs
    assert (spec.shape, spec.dtype, spec.stored_bytes) == ((), "float32", 8)
    (found,), rows = seen(manifest)
    np.testing.assert_array_equal(found.numpy(), Z[rows, 0, 0].astype(np.complex64))


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ({"z_shift": 1.0}, {}, "'z_shift', but 'x_z' is complex; subtract it there"),
        ({}, {"normalise": "window"}, "normalise=window does not take complex"),
        ({}, {"codes": ["z"]}, "'x_z' must hold integers, as codes"),
        ({"x_z": np.where(np.arange(N) == 3, np.nan, Z[:, 0, 0])}, {},
         "NaN or infinite in 1 of 24 samples, the first is sample 3 in the real part"),
    ],
)  # fmt: skip
def test_what_is_not_done_with_complex_numbers(tmp_path, more, options, said):
    path = archive(tmp_path / "a.npz", **more)
    with pytest.raises(DataError, match=re.escape(said)):
        made(path, tmp_path / "d", **options)


# One by one --------------------------------------------------------------------------


def sample(k, value):
    return Sample("ab"[k % 2], ("train", "test")[k // 8], {"z": value}, k % 3 % 2)


def written(directory, values, spec):
    return write_samples(
        directory,
        (sample(k, value) for k, value in enumerate(values)),
        dataset="made",
        classes=["a", "b"],
        inputs=[spec],
    )


@pytest.mark.parametrize("of", [np.asarray, torch.as_tensor, lambda z: z.tolist()])
def test_samples_with_complex_values(tmp_path, of):
    spec = InputSpec("z", (5, 2), "float64", complex=True)
    manifest = written(tmp_path / "d", [of(z) for z in Z[:10]], spec)
    assert manifest.inputs == (spec,)
    found = seen(manifest)[0][0].numpy()
    np.testing.assert_array_equal(found, Z[[0, 2, 4, 6, 1, 3, 5, 7]])


def test_samples_with_pairs_of_integers_and_lengths(tmp_path):
    spec = InputSpec("z", (4,), "int16", ragged=True, scale=0.5, complex=True)
    values = [np.full((k % 4 + 1, 2), [k, -k]) for k in range(10)]
    found = seen(written(tmp_path / "d", values, spec))[0][0].numpy()
    assert found[1].tolist() == [1 - 1j, 1 - 1j, 1 - 1j, 0]


def test_a_conjugate_tensor(tmp_path):
    spec = InputSpec("z", (5, 2), "float64", complex=True)
    values = [torch.from_numpy(z).conj() for z in Z[:10]]
    found = seen(written(tmp_path / "d", values, spec))[0][0].numpy()
    np.testing.assert_array_equal(found[0], Z[0].conj())


@pytest.mark.parametrize("value", [Z[0].real, Z[0, 0], np.full((5, 2), "1")])
def test_a_sample_that_is_not_as_announced(tmp_path, value):
    spec = InputSpec("z", (5, 2), "float32", complex=True)
    said = r"sample 1, .* announced is complex, of float32 \(5, 2\)"
    with pytest.raises(DataError, match=said):
        written(tmp_path / "d", [Z[0], value], spec)


def test_tensors_of_bfloat16(tmp_path):
    spec = InputSpec("z", (5, 2), "bfloat16")
    values = [torch.from_numpy(z.real).to(torch.bfloat16) for z in Z[:10]]
    manifest = written(tmp_path / "d", values, spec)
    found = seen(manifest)[0][0]
    assert torch.equal(found[0], values[0].double())
    of_floats = written(tmp_path / "e", Z[:10].real, spec)
    assert torch.equal(seen(of_floats)[0][0], found)
    with pytest.raises(DataError, match=r"sample 0, .* beyond what bfloat16 can hold"):
        written(tmp_path / "f", [np.full((5, 2), 3.4e38)], spec)


# Data sets of torch ------------------------------------------------------------------


def of_torch(directory, values):
    data = [({"z": value}, k % 2) for k, value in enumerate(values)]
    return write_torch_dataset(
        data, directory, dataset="made", client=["a", "b"] * (len(values) // 2)
    )


@pytest.mark.parametrize("cut", [5, 3])
def test_tensors_are_stored_as_they_are(tmp_path, cut):
    z = torch.from_numpy(Z).to(torch.complex64)
    kinds = {"complex": z, "bfloat16": z.real.to(torch.bfloat16)}
    for name, values in kinds.items():
        items = [v[: (cut if k == 7 else 5)] for k, v in enumerate(values)]
        manifest = of_torch(tmp_path / name, items)
        (spec,) = manifest.inputs
        assert (spec.shape, spec.ragged) == ((5, 2), cut < 5)
        wanted = ("float32", True) if name == "complex" else ("bfloat16", False)
        assert (spec.dtype, spec.complex) == wanted
        (found,), rows = seen(manifest)
        for value, row in zip(found, rows, strict=True):
            assert torch.equal(value[: len(items[row])], items[row].to(found.dtype))
            assert (value[len(items[row]) :] == 0).all()


def test_tensors_of_one_type(tmp_path):
    half = torch.zeros(2, dtype=torch.bfloat16)
    for first, other in ((half, half.float()), (half.float(), half + 1j)):
        said = "is (float32|complex64), in earlier samples (bfloat16|float32)"
        with pytest.raises(DataError, match=said):
            of_torch(tmp_path / "d", [first, other])
    found = seen(of_torch(tmp_path / "e", [half.float(), half] * 4))[0][0]
    assert found.dtype == torch.float64


# Shifts ------------------------------------------------------------------------------


def shifted(name, *columns, **options):
    owner = np.arange(N) % 2
    table = Table("t", columns, owner, ["a", "b"])
    clients = Clients(2, owner, np.ones(N, bool), 0)
    return shifts.get(name)(table, clients, **options).table.columns


def half_column(values):
    bits = to_bfloat16(values)
    spec = InputSpec("half", values.shape[1:], "bfloat16")
    return Column(spec, lambda rows: bits[rows])


def test_noise_is_circular():
    zeros = np.zeros((N, 400), complex)
    z, number = shifted(
        "noise", column("z", zeros, scale=2.0), column("one", zeros[:, 0]), level=3.0
    )
    rows = np.arange(N)
    found = 2 * z.fetch(rows)
    loud = found[np.abs(found).max(axis=(1, 2)) > 0]
    assert len(loud) == N // 2
    np.testing.assert_allclose((loud**2).sum(axis=2).mean(), 9, rtol=0.05)
    np.testing.assert_allclose((loud**2).mean(axis=(0, 1)), [4.5, 4.5], rtol=0.05)
    assert number.fetch(rows).shape == (N, 2)


def test_shifts_of_bfloat16():
    x = RNG.normal(3, 2, size=(N, 4))
    (noisy,) = shifted("noise", half_column(x), level=1e-6)
    close = from_bfloat16(noisy.fetch(np.arange(N)))
    np.testing.assert_allclose(close, x, rtol=2**-8)
    (even,) = shifted("standardise", half_column(x), over="pooled")
    assert even.spec.dtype == "float32"
    np.testing.assert_allclose(even.fetch(np.arange(N)).mean(axis=0), 0, atol=1e-6)
    table = Table("t", [half_column(x * [1, 1, 1, 900])], np.zeros(N, int), ["a"])
    assert "half[3]" in unscaled(table, [np.arange(N)])[0]


def test_complex_inputs_are_not_standardised():
    x = column("x", Z[:, 0].real)
    with pytest.raises(ConfigError, match=r"input 'z' is complex, .* shift.inputs"):
        shifted("standardise", x, column("z", Z))
    _, z = shifted("standardise", x, column("z", Z), inputs=["x"])
    assert z.spec.complex
    table = Table("t", [x, column("z", Z[:, 0] * 1e6)], np.zeros(N, int), ["a"])
    assert unscaled(table, [np.arange(N)]) == []


def test_complex_inputs_may_be_missing():
    z, _ = shifted("missing", column("z", Z), column("x", Z.real), by="sample")
    block, absent = z.fetch(np.arange(N)), z.lengths == 0
    assert absent.any()
    assert (block[absent] == 0).all()
    assert (block[~absent] != 0).all()


@pytest.mark.parametrize("store", [None, "bfloat16", "int8"])
def test_columns_of_complex_inputs_may_be_spread(tmp_path, store):
    """Both parts of what a client does not have are 0."""
    path = archive(tmp_path / "a.npz", client=np.arange(N) % 2)
    options = {} if store is None else {"store": store}
    manifest = made(path, tmp_path / "d", shift="vertical", **options)
    assert manifest.columns == {"z": ((0,), (1,))}
    for shard, _ in verify(manifest):
        assert shard.clients == (0, 2)
    (z,), rows = seen(manifest)
    for value, row in zip(z, rows.tolist(), strict=True):
        assert (value[:, 1 - row % 2] == 0).all()
        assert (value[:, row % 2].abs() > 0).all()


def test_a_column_of_bfloat16_that_is_blank_is_seen_as_0():
    spec = InputSpec("half", (2,), "bfloat16", scale=2.0, shift=-1.0)
    assert from_bfloat16(np.array(blank(spec))) == 0.5
    assert blank(spec).dtype == np.uint16
    alone = InputSpec("z", (), "float32", complex=True)
    assert blank(alone).dtype == np.float32
    assert is_blank(np.zeros((3, 2)), [], pairs=True)
    assert not is_blank(np.arange(6).reshape(3, 2), [], pairs=True)
    assert is_blank(np.arange(6).reshape(3, 2), [0], pairs=True)
