"""Rows of a table that came later, as the shards of a data set would have them."""

import numpy as np
import pyarrow as pa
import pytest

from data_prep.new_rows import read_new_rows
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import FedAPMError
from tests.support.preparation import prepare
from tests.unit.data_prep.test_table_source import TABLE, saved

WORDS = ("client=shop", "target=score", "missing=median", "ids=[colour]", "drop=[part]")


def made(tmp_path, *words):
    path = saved(tmp_path / "t", TABLE)
    return prepare("table", path, tmp_path / "d", *WORDS, *words)


@pytest.mark.parametrize("store", [None, "float16", "bfloat16", "int8"])
def test_rows_are_as_the_shards_have_them(tmp_path, store):
    manifest = made(tmp_path, *([f"store={store}"] if store else []))
    reader = ShardReader(manifest)
    rows = reader.rows(2, "train")
    path = saved(tmp_path / "n", TABLE.take(pa.array(rows)), "parquet")
    found = read_new_rows(path, manifest, keep=["shop"])
    for name, values in reader.read(2, "train").inputs.items():
        assert np.array_equal(found.inputs[name], values)
        assert found.inputs[name].dtype == values.dtype
    assert found.kept == {"shop": [manifest.client_names[2]] * len(rows)}


def test_columns_without_a_role_are_not_needed(tmp_path):
    manifest = made(tmp_path)
    table = TABLE.drop_columns(["score", "part"]).slice(0, 9)
    found = read_new_rows(saved(tmp_path / "n", table), manifest)
    assert {len(values) for values in found.inputs.values()} == {9}


@pytest.mark.parametrize(
    ("change", "keep", "said"),
    [
        (lambda t: t.drop_columns(["rooms"]), [], "has no column 'rooms'"),
        (lambda t: t, ["shops"], "has no column 'shops'; did you mean 'shop'"),
        (lambda t: t.set_column(1, "age", t["colour"]), [], "'age' has texts, but in"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, keep, said):
    path = saved(tmp_path / "n", change(TABLE))
    with pytest.raises(FedAPMError, match=said):
        read_new_rows(path, made(tmp_path), keep=keep)


def test_rows_cannot_be_shifted(tmp_path):
    manifest = made(tmp_path, "shift=standardise")
    path = saved(tmp_path / "n", TABLE)
    with pytest.raises(FedAPMError, match="shift=standardise, which new rows cannot"):
        read_new_rows(path, manifest)
