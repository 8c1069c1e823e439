"""Complex inputs: pairs in the file, complex tensors for a model, checked."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedapm_mpi.data.manifest import InputSpec, read_manifest
from fedapm_mpi.data.manifest_checks import input_error
from fedapm_mpi.data.number_types import pairs, to_bfloat16
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import tensor_bytes, to_samples
from fedapm_mpi.data.stored_types import cast_storage
from fedapm_mpi.data.table import Column, Table, column
from fedapm_mpi.data.verify import verify
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json

RNG = np.random.default_rng(0)
Z = (RNG.normal(size=(12, 3)) + 1j * RNG.normal(size=(12, 3))).astype(np.complex64)
SPLITS = {"train": [np.arange(8)], "test": [np.arange(8, 12)]}


def table(*columns):
    return Table("t", columns, np.arange(12) % 2, ("a", "b"))


def read(manifest, dtype=torch.float32):
    reader = ShardReader(manifest)
    found = to_samples(reader.read(0, "train"), manifest.inputs, dtype)
    reader.close()
    return found


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(torch.float32, torch.complex64), (torch.float64, torch.complex128)],
)
def test_a_model_sees_a_complex_tensor(tmp_path, dtype, kind):
    given = table(column("z", Z, scale=2.0), column("x", Z.real))
    manifest = write_dataset(tmp_path / "d", given, SPLITS)
    assert read_manifest(tmp_path / "d").inputs == manifest.inputs
    assert manifest.schema_version == 2
    z, x = read(manifest, dtype).inputs
    assert (z.dtype, x.dtype, z.shape) == (kind, dtype, (8, 3))
    np.testing.assert_array_equal(z.numpy(), 2 * Z[:8])
    of_z, of_x = dtype.itemsize * 6, dtype.itemsize * 3
    assert tensor_bytes(manifest.inputs, None, dtype) == [of_z, of_x, 8]


def test_pairs_are_plain_numbers_in_the_file(tmp_path):
    manifest = write_dataset(tmp_path / "d", table(column("z", Z)), SPLITS)
    stored = ShardReader(manifest).read(0, "test").inputs["z"]
    assert (stored.dtype, stored.shape) == (np.float32, (4, 3, 2))
    np.testing.assert_array_equal(stored[..., 1], Z[8:].imag)
    tree, _ = strict_json.decode((tmp_path / "d" / "manifest.json").read_bytes())
    assert tree["inputs"][0]["complex"] is True
    assert tree["inputs"][0]["shape"] == [3]
    assert len(list(verify(manifest))) == 1


@pytest.mark.parametrize("store", ["float16", "bfloat16"])
def test_both_parts_may_take_less_space(tmp_path, store):
    made = cast_storage(table(column("z", Z)), store).table
    manifest = write_dataset(tmp_path / "d", made, SPLITS, compression="gzip")
    kind = {"float16": torch.float16, "bfloat16": torch.bfloat16}[store]
    rounded = torch.view_as_real(torch.from_numpy(Z[:8])).to(kind).float()
    assert torch.equal(torch.view_as_real(read(manifest).inputs[0]), rounded)


def test_integers_and_single_numbers(tmp_path):
    whole = RNG.integers(-9, 9, (12, 2)).astype(np.int16)
    spec = InputSpec("iq", (), "int16", scale=0.5, complex=True)
    made = table(Column(spec, lambda rows: whole[rows]))
    (iq,) = read(write_dataset(tmp_path / "d", made, SPLITS)).inputs
    np.testing.assert_array_equal(iq.numpy(), (whole @ [0.5, 0.5j])[:8])


def test_no_samples(tmp_path):
    splits = {"train": [np.arange(8)], "test": [np.arange(0)]}
    manifest = write_dataset(tmp_path / "d", table(column("z", Z)), splits)
    stored = ShardReader(manifest).read(0, "test")
    (z,) = to_samples(stored, manifest.inputs, torch.float32).inputs
    assert (z.shape, z.dtype) == ((0, 3), torch.complex64)


@pytest.mark.parametrize(
    ("value", "part"), [(complex(1, np.nan), "imaginary"), (complex(-np.inf), "real")]
)
def test_what_is_not_finite_is_refused_with_its_place(tmp_path, value, part):
    z = Z.copy()
    z[5, 2] = value
    said = rf"'z' is NaN or infinite in 1 of 12 .* sample 5 at \[2\] in the {part} part"
    with pytest.raises(DataError, match=said):
        write_dataset(tmp_path / "d", table(column("z", z)), SPLITS)
    bits = to_bfloat16(pairs(z))
    spec = InputSpec("z", (3,), "bfloat16", complex=True)
    made = table(Column(spec, lambda rows: bits[rows]))
    with pytest.raises(DataError, match=said):
        write_dataset(tmp_path / "d", made, SPLITS)


def test_values_beyond_single_precision_are_refused(tmp_path):
    z = Z.astype(np.complex128)
    z[4, 1] = 1e39j
    with pytest.raises(DataError, match="sample 4 has a value beyond"):
        write_dataset(tmp_path / "d", table(column("z", z)), SPLITS)


def test_a_source_that_gives_no_pairs_is_refused(tmp_path):
    spec = InputSpec("z", (3,), "float32", complex=True)
    said = (
        r"pairs of complex numbers, float32 of shape \(8, 3, 2\), but gives complex64"
    )
    made = table(Column(spec, lambda rows: Z[rows]))
    with pytest.raises(DataError, match=said):
        write_dataset(tmp_path / "d", made, SPLITS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"complex": False}, "complex is false, not true"),
        ({"complex": 1}, "complex is 1, not true"),
        ({"shift": 1.0}, "neither a shift nor codes"),
        ({"codes": 3, "dtype": "int8"}, "neither a shift nor codes"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, change, said):
    write_dataset(tmp_path / "d", table(column("z", Z)), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree, _ = strict_json.decode(path.read_bytes())
    tree["inputs"][0] |= change
    path.write_bytes(strict_json.encode(tree))
    with pytest.raises(DataError, match=said):
        read_manifest(tmp_path / "d")


def test_a_version_that_does_not_know_of_them_would_refuse_the_file(tmp_path):
    write_dataset(tmp_path / "d", table(column("z", Z)), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree, _ = strict_json.decode(path.read_bytes())
    tree["schema_version"] = 1
    path.write_bytes(strict_json.encode(tree))
    with pytest.raises(DataError, match="codes, complex or bfloat16"):
        read_manifest(tmp_path / "d")


def test_what_a_source_says_of_complex_is_checked():
    spec = InputSpec("z", (2,), "float32", complex="yes")
    assert "complex of input 'z' is 'yes'" in input_error(spec)
    assert input_error(replace(spec, complex=True)) is None
    assert "neither" in input_error(replace(spec, complex=True, shift=1.0))


def test_stored_values_that_are_not_finite_are_a_fault(tmp_path, monkeypatch):
    manifest = write_dataset(tmp_path / "d", table(column("z", Z)), SPLITS)
    read_as_is = ShardReader.read

    def damaged(self, client, split, **options):
        found = read_as_is(self, client, split, **options)
        found.inputs["z"][0, 0, 1] = np.nan
        return found

    monkeypatch.setattr(ShardReader, "read", damaged)
    with pytest.raises(DataError, match="train values of 'z' not finite"):
        list(verify(manifest))
