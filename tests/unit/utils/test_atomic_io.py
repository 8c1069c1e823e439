"""Files that are replaced, and advice that fits what was in the way."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError, WriteError
from fedapm_mpi.utils.atomic_io import open_new, why_not_written, write_csv, write_error

ROOM, PERMISSION = "free some space", "check the permissions of the folder"
DISK = "check the file system and its disk or server"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, ROOM),
        (errno.EDQUOT, ROOM),
        (errno.EACCES, PERMISSION),
        (errno.EPERM, PERMISSION),
        (errno.EROFS, PERMISSION),
        (errno.ENOLCK, DISK),
        (errno.EIO, DISK),
        (errno.ENOTDIR, "move away what has this name"),
    ],
)
def test_advice_fits_the_error(code, remedy):
    words = os.strerror(code)
    assert why_not_written(OSError(code, words)) == (words, remedy)
    for text in (f"Can't write data (errno = {code}, x)", f"x (os error {code})"):
        assert why_not_written(RuntimeError(text)) == (words, remedy)
    assert str(write_error(Path("x"), OSError(code, words))).startswith(
        f"cannot write x: {words}; {remedy} or choose another folder"
    )


def test_advice_without_a_number():
    assert why_not_written(RuntimeError("y" * 900)) == ("y" * 200, DISK)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for target in (precious, tmp_path / "nowhere"):
        (tmp_path / "new").symlink_to(target)
        with open_new(tmp_path / "new") as file:
            file.write(b"other")
        assert not (tmp_path / "new").is_symlink()
        assert (tmp_path / "new").read_text() == "other"
        (tmp_path / "new").unlink()
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_in_the_way_of_a_shard(tmp_path):
    (tmp_path / "to/shard-00000-of-00001.h5.partial").mkdir(parents=True)
    table = Table("t", [column("x", np.zeros((4, 2)))], np.zeros(4, int), ["a"])
    rows = {"train": [np.array([0, 1])], "test": [np.array([2, 3])]}
    with pytest.raises(DataError, match=r"cannot write the data set to .*directory"):
        write_dataset(tmp_path / "to", table, rows)


NO_LOCKS = """
#include <errno.h>
#include <sys/file.h>
int flock(int file, int operation) { errno = ENOLCK; return -1; }
"""

WRITE_AND_READ = """
import sys
import numpy as np
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
table = Table("t", [column("x", np.arange(4.0))], np.zeros(4, int), ["a"])
rows = {"train": [np.array([3, 0])], "test": [np.array([1])]}
manifest = write_dataset(sys.argv[1], table, rows, compression=sys.argv[2] or None)
reader = ShardReader(manifest)
print(reader.read(0, "train").inputs["x"].tolist())
reader.close()
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_file_system_without_locks(tmp_path, compression):
    """As some mounts of NFS and Lustre are."""
    (tmp_path / "no.c").write_text(NO_LOCKS)
    library = tmp_path / "no.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "no.c"], check=True
    )
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_AND_READ, tmp_path / "to", compression],
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == "[3.0, 0.0]\n", ended.stderr


def test_a_csv_file_is_the_one_that_the_writer_of_csv_makes(tmp_path):
    header = ("name", "a", "b")
    rows = [
        ["x, y", 1, 0.1 + 0.2],
        [Path("p"), True, float("nan")],
        [None, 2**60, -0.0],
    ]
    write_csv(tmp_path / "exact.csv", header, rows)
    assert (tmp_path / "exact.csv").read_bytes() == (
        b'name,a,b\n"x, y",1,0.30000000000000004\np,True,\n,1152921504606846976,-0.0\n'
    )
    write_csv(tmp_path / "short.csv", header, iter(rows), ".4g")
    assert (tmp_path / "short.csv").read_bytes() == (
        b'name,a,b\n"x, y",1,0.3\np,True,\n,1152921504606846976,-0\n'
    )
    with pytest.raises(WriteError, match="cannot write"):
        write_csv(tmp_path / "none" / "x.csv", header, rows)
