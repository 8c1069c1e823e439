"""Inputs of codes: they stay integers from the file to the model, and are checked."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedapm_mpi.data.hdf5_layout import range_faults
from fedapm_mpi.data.manifest import InputSpec, read_manifest
from fedapm_mpi.data.manifest_checks import input_error
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import tensor_bytes, to_samples
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json

RNG = np.random.default_rng(0)
# Beyond 2^24 a number in single precision would be another.
CODES = RNG.integers(0, 2**25 + 2, (12, 3)).astype(np.int32)
CODES[0, 0] = 2**25 + 1
SPLITS = {"train": [np.arange(8)], "test": [np.arange(8, 12)]}


def table(codes=2**25 + 2, values=CODES):
    columns = [column("text", values, codes=codes), column("x", RNG.random((12, 2)))]
    return Table("t", columns, np.arange(12) % 2, ("a", "b"))


def test_codes_stay_integers(tmp_path):
    manifest = write_dataset(tmp_path / "d", table(), SPLITS)
    assert read_manifest(tmp_path / "d").inputs == manifest.inputs
    assert manifest.schema_version == 2
    stored = ShardReader(manifest).read(0, "train")
    text, x = to_samples(stored, manifest.inputs, torch.float32).inputs
    assert (text.dtype, x.dtype) == (torch.int64, torch.float32)
    assert text.tolist() == CODES[:8].tolist()
    assert tensor_bytes(manifest.inputs, None, torch.float32) == [24, 8, 8]


def test_a_data_set_without_codes_is_described_as_before(tmp_path):
    without = replace(table(), columns=table().columns[1:])
    manifest = write_dataset(tmp_path / "d", without, SPLITS)
    tree, _ = strict_json.decode((tmp_path / "d" / "manifest.json").read_bytes())
    assert manifest.schema_version == tree["schema_version"] == 1
    assert "codes" not in tree["inputs"][0]


def test_a_code_out_of_range_is_not_written(tmp_path):
    with pytest.raises(
        DataError, match=r"'text' of sample 0 has the code \d+ at \[0\]"
    ):
        write_dataset(tmp_path / "d", table(codes=2**25 + 1), SPLITS)
    negative = CODES.copy()
    negative[9, 1] = -1
    with pytest.raises(DataError, match=r"sample 9 has the code -1 at \[1\], not 0 to"):
        write_dataset(tmp_path / "d", table(values=negative), SPLITS)


def test_a_stored_code_out_of_range_is_a_fault(tmp_path):
    manifest = write_dataset(tmp_path / "d", table(), SPLITS)
    stored = ShardReader(manifest).read(0, "test")
    stored.inputs["text"][2, 1] = 2**26
    (fault,) = range_faults(stored, manifest)
    assert f"input 'text' of sample 2 has the code {2**26} at [1]" in fault


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codes": 0}, "codes of input"),
        ({"codes": "3"}, "codes of input"),
        ({"codes": 3, "dtype": "float32"}, "stored as integers"),
        ({"codes": 3, "scale": 2.0}, "scale 1"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, change, said):
    write_dataset(tmp_path / "d", table(), SPLITS)
    path = tmp_path / "d" / "manifest.json"
    tree, _ = strict_json.decode(path.read_bytes())
    tree["inputs"][0] |= change
    path.write_bytes(strict_json.encode(tree))
    with pytest.raises(DataError, match=said):
        read_manifest(tmp_path / "d")


def test_codes_that_are_no_number_are_refused_in_a_source():
    spec = InputSpec("t", (2,), "int32", codes=True)
    assert "codes of input" in input_error(spec)
    assert input_error(replace(spec, codes=5)) is None
    assert json.dumps(replace(spec, codes=5).plain())
