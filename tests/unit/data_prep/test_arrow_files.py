"""Arrow files, Arrow streams and parquet give the same batches."""

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from data_prep.arrow_files import batches, reading, schema
from fedapm_mpi.errors import DataError

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", None], "c": [[1], [], [2, 3]]})


def written(folder, kind):
    path = folder / f"{kind}.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        pa_parquet.write_table(TABLE, path)
        return path
    open_writer = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with open_writer(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return path


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_batches_and_schema(tmp_path, kind):
    path = written(tmp_path, kind)
    assert schema(path).names == ["a", "b", "c"]
    found = pa.Table.from_batches(batches(path, ["c", "a"]))
    assert found.to_pydict() == TABLE.select(["c", "a"]).to_pydict()


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_damage_names_the_file(tmp_path, kind):
    path = written(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:40])
    message = f"cannot read .*{kind}.*; repair the file"
    with pytest.raises(DataError, match=message), reading(path):
        list(batches(path, ["a"]))
