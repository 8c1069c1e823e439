"""Tables as columns: types that turn out wider, texts as codes, damage."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from data_prep import spool, table_columns
from data_prep.table_columns import read_columns
from fedapm_mpi.errors import DataError


def read(path, wanted=None, as_text=()):
    return read_columns(path, wanted, as_text)[0]


def written(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(table_columns, "BLOCK_BYTES", 64)


ROWS = "".join(f"{k},{k},{k}\n" for k in range(40))


def test_types_widen_where_later_rows_need_it(tmp_path, small_blocks):
    text = "a,b,c\n" + ROWS + "1.5,word,7\n,,\n"
    found = read(written(tmp_path / "t.csv", text)).found
    assert [found[name].kind for name in "abc"] == ["number", "text", "number"]
    assert found["a"].values[40] == 1.5
    assert np.isnan(found["a"].values[41])
    assert not found["a"].whole
    b = found["b"]
    assert [b.texts[k] for k in b.values[:41]] == [*map(str, range(40)), "word"]
    assert b.values[41] == -1
    assert found["c"].whole


def test_a_column_that_begins_empty_may_hold_anything(tmp_path, small_blocks):
    empty = "".join(f"{k},,\n" for k in range(40))
    text = "a,b,c\n" + empty + "1,word,2.5\n"
    found = read(written(tmp_path / "t.csv", text)).found
    assert found["b"].texts == ("word",)
    assert found["c"].values[-1] == 2.5


def test_files_of_a_folder_agree_on_wider_types(tmp_path):
    written(tmp_path / "1.csv", "a,b\n1,x\n")
    written(tmp_path / "2.csv", "a,b\nlow,y\n")
    columns = read(tmp_path)
    assert columns.found["a"].texts == ("1", "low")
    assert columns.place(0) == f"{tmp_path / '1.csv'}, line 2"
    assert columns.place(1) == f"{tmp_path / '2.csv'}, line 2"


def test_numbers_that_are_names_stay_texts_in_their_order(tmp_path):
    path = written(tmp_path / "t.csv", "a,b\n10,1\n9,2\n010,3\n")
    assert read(path, as_text=["a"]).found["a"].texts == ("9", "10", "010")
    table = pa.table({"a": [10, 9, -1]})
    pa_parquet.write_table(table, tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", as_text=["a"]).found["a"]
    assert found.texts == ("-1", "9", "10")


def test_numbers_are_single_where_that_is_exact(tmp_path):
    path = written(tmp_path / "t.csv", "a,b,c\n1.5,0.1,16777217\n2,,3\n")
    found = read(path).found
    kinds = [found[name].values.dtype for name in "abc"]
    assert kinds == [np.float32, np.float64, np.float64]


def test_only_wanted_columns_are_read(tmp_path):
    path = written(tmp_path / "t.csv", "a,b\n1,2\n")
    columns, names = read_columns(path, ["b", "not there"], [])
    assert (list(columns.found), names) == (["b"], ("a", "b"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "cannot read .*Empty"),
        ("t.csv", "a,b\n", "has no rows below its header"),
        ("t.csv", "a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        ("t.csv", "a;b\n1;2\n", "separate columns by commas"),
        ("t.csv", "a,a\n1,2\n", "two columns 'a'"),
        ("t.txt", "a,b\n1,2\n", "no table by its name"),
        ("t.parquet", "PAR1", "cannot read"),
        ("t.feather", "nothing", "cannot read"),
    ],
)
def test_damage_is_named(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read(written(tmp_path / name, text))


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,Zürich\n".encode("latin-1"))
    with pytest.raises(DataError, match="column 'b' is no text in UTF-8"):
        read(path)
    path.write_bytes("\ufeffa,b\n1,Zürich\n".encode())
    assert read(path).found["b"].texts == ("Zürich",)
    assert "a" in read(path).found


def test_files_must_have_the_same_columns(tmp_path):
    written(tmp_path / "1.csv", "a,b\n1,2\n")
    written(tmp_path / "2.csv", "a,c\n1,2\n")
    with pytest.raises(
        DataError, match=r"2\.csv has other columns than .*1\.csv \('b'\)"
    ):
        read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no table"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "gone.csv")


def test_columns_of_other_kinds_are_named(tmp_path):
    pa_parquet.write_table(pa.table({"a": [[1], [2]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'a' is list.* truth values, texts or"):
        read(tmp_path / "t.parquet")


def test_long_columns_are_spooled_and_the_same(tmp_path, monkeypatch):
    rows = "".join(
        f"{k},{k / 8},{'abc'[k % 3]},2020-01-{1 + k % 28:02}\n" for k in range(99)
    )
    path = written(tmp_path / "t.csv", "a,b,c,d\n" + rows + ",,,\n")
    short = read(path).found
    monkeypatch.setattr(table_columns, "SPOOL_BYTES", 100)
    monkeypatch.setattr(table_columns, "BLOCK_BYTES", 256)
    long = read(path).found
    for name, column in long.items():
        assert isinstance(column.values, np.memmap)
        column.release()
        np.testing.assert_array_equal(column.values, short[name].values)
        assert column[2:] == short[name][2:]
        assert column.kind == short[name].kind
    short["a"].release()  # of no effect


@pytest.fixture
def spooled(tmp_path, monkeypatch):
    rows = "".join(f"{k},{'abc'[k % 3]},{k / 8}\n" for k in range(99))
    path = written(tmp_path / "t.csv", "a,b,c\n" + rows)
    monkeypatch.setattr(table_columns, "SPOOL_BYTES", 100)
    monkeypatch.setattr(table_columns, "BLOCK_BYTES", 256)
    return path


def test_columns_that_are_arranged_give_the_same_rows(spooled):
    plain, arranged = read(spooled), read(spooled)
    order = np.random.default_rng(0).permutation(99)[:80]
    arranged.arrange(["a", "b"], order)
    rows = np.array([98, 0, *order[:5], 7])
    for name in "ab":
        assert arranged.take(name, rows).tolist() == plain.take(name, rows).tolist()
    assert arranged.found["a"].values[:80].tolist() == order.tolist()
    assert arranged.found["c"].values.tolist() == plain.found["c"].values.tolist()


def test_rows_that_repeat_leave_columns_as_they_are(spooled):
    columns = read(spooled)
    columns.arrange(["a"], np.array([5, 5, 3]))
    assert columns.places is None
    assert columns.take("a", np.array([5, 3])).tolist() == [5, 3]


def test_columns_in_memory_are_not_arranged(tmp_path):
    columns = read(written(tmp_path / "t.csv", "a\n" + "1\n2\n3\n"))
    columns.arrange(["a"], np.array([2, 0, 1]))
    assert columns.places is None
    assert columns.found["a"].values.tolist() == [1, 2, 3]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    path = written(tmp_path / "t.csv", "a\n" + "1\n" * 100)
    monkeypatch.setattr(table_columns, "SPOOL_BYTES", 100)

    def full(prefix):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "TemporaryFile", full)
    with pytest.raises(DataError, match=r"No space left on device\); make room there"):
        read(path)
