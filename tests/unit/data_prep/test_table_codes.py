"""Columns of a table as codes for an embedding, or as ranks of texts."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from data_prep.table_encoding import input_names
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import FedAPMError
from tests.support.preparation import everyone, prepare
from tests.unit.data_prep.test_table_source import PART, TABLE, N, saved

RNG = np.random.default_rng(4)
ORDER = ("small", "medium", "large")
SIZE = np.array(ORDER)[RNG.integers(3, size=N)]
WARD = np.array([f"{k}.0" for k in RNG.integers(40, 49, N)])
WARD[PART == "train"] = [f"{k}" for k in RNG.integers(40, 47, (PART == "train").sum())]
WARD[::11] = ""
WITH = TABLE.append_column("size", pa.array(SIZE)).append_column(
    "ward", pa.array([one or None for one in WARD])
)
ROLES = ("client=shop", "target=score", "split_column=part", "drop=[day,rooms,age]")
SIZES = f"ordinal.size=[{','.join(ORDER)}]"


def table(tmp_path, *words, kind="parquet", made=WITH):
    path = saved(tmp_path / "t", made, kind)
    return prepare("table", path, tmp_path / "d", *ROLES, "missing=mean", *words)


def stored(manifest, name):
    """Return an input of all rows of the table, in their order."""
    found = {}
    reader = ShardReader(manifest)
    for split, clients in everyone(manifest).items():
        for client, arrays in enumerate(clients):
            rows = reader.rows(client, split).tolist()
            found |= dict(zip(rows, arrays.inputs[name], strict=True))
    return np.array([found[row] for row in range(N)])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_codes_are_of_the_texts_of_training_rows(tmp_path, kind):
    manifest = table(tmp_path, "ids=[ward]", SIZES, kind=kind)
    ward = next(spec for spec in manifest.inputs if spec.name == "ward")
    known = sorted({w.removesuffix(".0") for w in WARD[PART == "train"]} - {""})
    assert (ward.shape, ward.dtype, ward.codes) == ((), "uint8", len(known) + 1)
    wanted = [
        known.index(w.removesuffix(".0")) + 1 if w.removesuffix(".0") in known else 0
        for w in WARD
    ]
    assert stored(manifest, "ward").tolist() == wanted
    assert 0 < sum(code == 0 for code in wanted) < N / 2
    assert "ward" not in input_names(manifest.encoding)


def test_ranks_are_those_of_scikit_learn(tmp_path):
    manifest = table(tmp_path, SIZES, "ids=[ward,colour]")
    ranks = OrdinalEncoder(categories=[ORDER]).fit_transform(SIZE[:, None])
    scaled = StandardScaler().fit(ranks[PART == "train"]).transform(ranks)
    assert_allclose(stored(manifest, "x"), scaled, atol=1e-6)
    assert [spec.name for spec in manifest.inputs] == ["x", "colour", "ward"]


def test_a_table_may_have_codes_alone(tmp_path):
    words = ["ids=[colour,ward]", "inputs=[ward,colour]", "drop=[]"]
    manifest = table(tmp_path, *words)
    assert [spec.name for spec in manifest.inputs] == ["ward", "colour"]


def test_a_missing_rank_is_filled_in_as_numbers_are(tmp_path):
    lacking = pa.array([None if k % 9 == 0 else s for k, s in enumerate(SIZE)])
    made = WITH.set_column(WITH.schema.get_field_index("size"), "size", lacking)
    manifest = table(tmp_path, SIZES, "inputs=[size]", "drop=[]", made=made)
    assert input_names(manifest.encoding) == ["size", "size missing"]
    assert_allclose(stored(manifest, "x")[::9], [[0, 1]] * -(-N // 9), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ordinal.size=[small,large]"], "column 'size' is 'medium' there, nor in .*"
         "which is not in ordinal.size"),
        (["ordinal.size=[small,small]"], "from the least to the greatest"),
        (["ordinal.sizes=[a,b]"], "ordinal names 'sizes', .*did you mean 'size'"),
        (["ids=[shop]"], "ids names 'shop', which is no input"),
        (["ids=[size]", SIZES], "'size' is named twice by ids, ordinal"),
        (["ids=[day]"], "ids names 'day', which is no input"),
    ],
)  # fmt: skip
def test_what_cannot_be_encoded_so(tmp_path, words, said):
    with pytest.raises(FedAPMError, match=said):
        table(tmp_path, *words)


def test_columns_without_the_new_roles_are_as_before(tmp_path):
    path = saved(tmp_path / "t", TABLE)
    manifest = prepare("table", path, tmp_path / "d", *ROLES, "missing=mean")
    source = manifest.preparation["source"]
    assert not {"ids", "ordinal", "like", "weight", "incomplete"} & source.keys()
