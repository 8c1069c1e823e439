"""Rows that came later, encoded as another data set was."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from data_prep import write_frame
from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.utils import strict_json
from tests.support.preparation import everyone, prepare
from tests.unit.data_prep.test_table_source import COLOUR, SHOP, TABLE, N, saved

RNG = np.random.default_rng(7)
CLASSES = np.array(["no", "perhaps", "yes"])[RNG.integers(3, size=N)]
WORDS = ("client=shop", "missing=median", "ids=[colour]", "drop=[part,score]")


def with_classes(given=CLASSES):
    return TABLE.append_column("answer", pa.array(given))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    path = saved(folder / "t", with_classes())
    return prepare("table", path, folder / "d", *WORDS, "target=answer")


def later(tmp_path, first, table=None, *words, target="target=answer"):
    path = saved(tmp_path / "t", with_classes() if table is None else table, name="new")
    return prepare(
        "table", path, tmp_path / "n", "client=shop", target, f"like={first.directory}",
        *words,
    )  # fmt: skip


def test_the_same_rows_are_encoded_alike(tmp_path, first):
    found = later(tmp_path, first)
    assert found.encoding == first.encoding
    assert found.inputs == first.inputs
    for split, clients in everyone(first).items():
        for ours, other in zip(everyone(found)[split], clients, strict=True):
            assert (ours.labels == other.labels).all()
            for name, values in ours.inputs.items():
                assert (values == other.inputs[name]).all()
    said = found.preparation
    assert said["source"]["like"] == "d"
    assert said["files"][1]["sha256"] == first.sha256


def test_other_rows_have_the_first_ones_means_and_classes(tmp_path, first):
    keep = np.flatnonzero((CLASSES != "perhaps") & (SHOP < 6))[::-1]
    found = later(tmp_path, first, with_classes().take(keep))
    assert found.classes == first.classes
    assert found.label_counts["train"][:, 1].sum() == 0
    age = next(one for one in found.encoding if one["column"] == "age")
    ages = TABLE["age"].to_numpy()[keep]
    filled = np.where(np.isnan(ages), age["fill"], ages)
    wanted = np.sort((filled - age["mean"]) / age["std"])
    every = [own for parts in everyone(found).values() for own in parts]
    x = np.concatenate([own.inputs["x"][:, 0] for own in every])
    assert_allclose(np.sort(x), wanted, rtol=1e-5)


def test_a_frame_gives_the_same(tmp_path, first):
    frame = with_classes().take(np.arange(0, N, 2))
    of_file = later(tmp_path, first, frame)
    of_frame = write_frame(
        frame, tmp_path / "f", dataset="new", target="answer", client="shop",
        like=first.directory,
    )  # fmt: skip
    assert [file.sha256 for file in of_frame.files] == [
        file.sha256 for file in of_file.files
    ]


def test_real_targets_are_those_of_the_first(tmp_path):
    path = saved(tmp_path / "t", TABLE)
    words = ["client=shop", "missing=mean", "drop=[part]"]
    made = prepare("table", path, tmp_path / "d", *words, "target=score")
    found = later(tmp_path, made, TABLE.slice(0, 60), target="target=score")
    assert (found.target.kind, found.target.names) == ("real", ("score",))
    other = TABLE.append_column("more", pa.array(np.arange(N) / 3)).slice(0, 60)
    with pytest.raises(FedAPMError, match=r"target is more, but .* has score"):
        later(tmp_path, made, other, target="target=more")


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (lambda t: t.drop_columns(["rooms"]), [], "no column 'rooms'"),
        (lambda t: t.set_column(2, "rooms", pa.array(COLOUR)), [],
         "column 'rooms' has texts, but in .* it has numbers"),
        (lambda t: with_classes(np.where(CLASSES == "no", "nope", CLASSES)), [],
         "has no class 'nope'.* did you mean 'no'"),
        (None, ["missing=mean"], "missing has no effect with like"),
        (None, ["ids=[colour]"], "ids has no effect with like"),
        (None, ["drop=[day]"], "drop has no effect with like"),
        (None, ["kind=real"], "kind is 'real', but the target of .* is 'class'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_first(tmp_path, first, change, words, said):
    table = with_classes()
    with pytest.raises(FedAPMError, match=said):
        later(tmp_path, first, table if change is None else change(table), *words)


def test_a_value_is_missing_only_where_one_was_allowed_to_be(tmp_path):
    whole = pa.table({"shop": SHOP, "a": np.arange(N) / 7, "y": CLASSES})
    made = prepare("table", saved(tmp_path / "t", whole), tmp_path / "d", "client=shop",
                   "target=y")  # fmt: skip
    lacking = whole.set_column(1, "a", pa.array([None, 1.5] * (N // 2)))
    with pytest.raises(FedAPMError, match="'a' has no value there, nor in 99 other"):
        later(tmp_path, made, lacking, target="target=y")


def test_a_data_set_without_columns_is_none(tmp_path, first):
    np.savez(tmp_path / "made.npz", x_f=np.zeros((9, 2)), y=np.arange(9) % 3,
             client=np.arange(9) % 2)  # fmt: skip
    made = prepare("arrays", tmp_path / "made.npz", tmp_path / "d")
    with pytest.raises(FedAPMError, match="was not made of the columns of a table"):
        later(tmp_path, made)


@pytest.mark.parametrize(
    "change",
    [{"kind": "odd"}, {"mean": [1, 2]}, {"mean": "1"}, {"more": 1}, {"column": 3}],
)
def test_an_encoding_that_was_changed_is_refused(tmp_path, first, change):
    path = tmp_path / "d" / "manifest.json"
    path.parent.mkdir()
    raw = (Path(first.directory) / "manifest.json").read_bytes()
    tree, _ = strict_json.decode(raw)
    one = next(one for one in tree["encoding"] if one["kind"] == "number")
    one |= change
    path.write_bytes(strict_json.encode(json.loads(json.dumps(tree))))
    with pytest.raises(FedAPMError, match="an encoding that this version does not"):
        later(tmp_path, type("Made", (), {"directory": tmp_path / "d"}))
