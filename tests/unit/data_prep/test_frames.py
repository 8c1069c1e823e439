"""Frames become the shards that a file of the same columns becomes."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from data_prep import write_frame
from fedapm_mpi.data.reader import verify_checksums
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import everyone, prepare

N = 120
RNG = np.random.default_rng(1)
COLUMNS = {
    "shop": RNG.integers(1, 6, size=N),
    "age": np.where(np.arange(N) % 7 == 0, np.nan, RNG.normal(50, 9, N).round(3)),
    "rooms": RNG.integers(5, size=N),
    "colour": [[None, "red", "green"][k] for k in RNG.integers(3, size=N)],
    "day": [dt.date(2020, 1, 1) + dt.timedelta(days=5 * k) for k in range(N)],
    "person": np.arange(N) // 3,
    "part": np.where(np.arange(N) % 4 == 0, "test", "train"),
    "score": RNG.normal(size=N).round(6),
}
TABLE = pa.table({k: pa.array(v, from_pandas=True) for k, v in COLUMNS.items()})


def made_by(library):
    """Return the frame of a library, or skip the test."""
    if library == "pyarrow":
        return TABLE
    if library == "pandas":
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        return pandas.DataFrame(COLUMNS, index=np.arange(N)[::-1])
    return pytest.importorskip("polars", reason="polars is not installed").from_arrow(
        TABLE
    )


CASES = {
    "clients": ({"client": "shop", "split_column": "part"}, {"missing": "mean"}),
    "several columns": (
        {"client": ["shop", "part"], "group": "person"},
        {"missing": "mean"},
    ),
    "groups": ({"client": "shop", "group": "person"}, {"missing": "median", "seed": 3}),
    "a partitioner": (
        {},
        {
            "missing": "mean",
            "partitioner": {"name": "continuous"},
            "clients": 3,
            "drop": ["day", "part"],
            "scale": "none",
        },
    ),
}


def words(options):
    for key, value in options.items():
        if isinstance(value, dict):
            value = value["name"]
        yield (
            f"{key}=[{','.join(value)}]"
            if isinstance(value, list)
            else (f"{key}={value}")
        )


@pytest.mark.parametrize("library", ["pyarrow", "pandas", "polars"])
@pytest.mark.parametrize("case", CASES)
def test_shards_are_those_of_the_csv(tmp_path, library, case):
    frame = made_by(library)
    roles, more = CASES[case]
    options = {"target": "score", **roles, **more}
    pa_csv.write_csv(TABLE, tmp_path / "made.csv")
    wanted = prepare("table", tmp_path / "made.csv", tmp_path / "a", *words(options))
    manifest = write_frame(frame, tmp_path / "b", dataset="made", **options)
    verify_checksums(manifest)
    assert [f.sha256 for f in manifest.files] == [f.sha256 for f in wanted.files]
    for key in ("dataset", "client_names", "inputs", "encoding", "target", "classes"):
        assert getattr(manifest, key) == getattr(wanted, key), key
    for split, counts in wanted.counts.items():
        assert manifest.counts[split].tolist() == counts.tolist()
    assert manifest.preparation["source"]["name"] == "frame"


def test_a_frame_of_categories_and_truth_values(tmp_path):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.DataFrame(
        {
            "who": ["a", "a", "b", "b"] * 3,
            "kind": polars.Series(["u", "v", "v", "u"] * 3, dtype=polars.Categorical),
            "yes": [True, False, True, True] * 3,
        }
    )
    manifest = write_frame(
        frame, tmp_path / "d", dataset="m", target="yes", client="who", test=0.5
    )
    assert [one["kind"] for one in manifest.encoding] == ["category"]
    for clients in everyone(manifest).values():
        for arrays in clients:
            assert (arrays.inputs["x"].sum(axis=1) == 1).all()


def test_notes_are_handed_over(tmp_path):
    found = []
    write_frame(
        TABLE, tmp_path / "d", dataset="m", target="score", client="shop",
        missing="mean", drop=["part"], tell=found.append,
    )  # fmt: skip
    assert any("target score (real)" in note for note in found)
    assert any("numbers age, rooms" in note for note in found)


FAULTS = {
    "no such column": ({"target": "scor"}, "the frame has no column 'scor' .*'score'"),
    "missing": (
        {"target": "score", "client": "shop"},
        "the frame, row 0: column 'age' has no value there, .* set missing=median",
    ),
    "missing client": (
        {"target": "score", "client": "colour"},
        "the frame, row .*: column 'colour' names no client there",
    ),
    "no clients": ({"target": "score", "missing": "mean"}, "client=COLUMN names them"),
    "unknown option": (
        {"target": "score", "client": "shop", "sed": 1},
        "sed: unknown key; did you mean 'seed'",
    ),
    "two roles": ({"target": "score", "client": "score"}, "give it one role"),
    "drop with inputs": (
        {"target": "score", "inputs": ["age"], "drop": ["day"]},
        "drop has no effect with inputs",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_named(tmp_path, name):
    options, message = FAULTS[name]
    with pytest.raises((DataError, ConfigError), match=message):
        write_frame(TABLE, tmp_path / "d", dataset="made", **options)
    assert not (tmp_path / "d").exists()


ODD = {
    "no frame": ([1, 2], "the frame cannot be read as columns of one type each"),
    "no rows": (TABLE.slice(0, 0), "has no rows; give one with samples"),
    "twice": (
        pa.Table.from_arrays([TABLE["score"]] * 2, names=["a", "a"]),
        "two columns 'a'; rename one",
    ),
    "lists": (
        TABLE.append_column("l", pa.array([[1]] * N)),
        r"column 'l' is list<.*>; columns are numbers, truth values, texts or dates",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_table_is_refused(tmp_path, name):
    frame, message = ODD[name]
    with pytest.raises(DataError, match=message):
        write_frame(frame, tmp_path / "d", dataset="m", target="score", client="shop")


def test_a_column_of_several_types_is_named(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": [1, "x"], 5: [0, 1]})
    with pytest.raises(
        DataError, match=r"one type each .*column a.*; give a frame, and convert"
    ):
        write_frame(frame, tmp_path / "d", dataset="m", target="5")


def test_a_finished_data_set_is_kept(tmp_path):
    options = {"dataset": "m", "target": "score", "client": "shop", "missing": "mean"}
    first = write_frame(TABLE, tmp_path / "d", **options)
    with pytest.raises(DataError, match="already holds a finished data set"):
        write_frame(TABLE, tmp_path / "d", **options)
    again = write_frame(TABLE, tmp_path / "d", force=True, **options)
    assert again.sha256 == first.sha256
