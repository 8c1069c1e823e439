"""What a rank reports of itself."""

import os
import sys

from fedapm_mpi.comm import Serial
from fedapm_mpi.doctor import launch_env as environment
from fedapm_mpi.doctor.rank_info import RankInfo, collect, source_digest


def test_libraries_are_found_by_their_names(tmp_path):
    for name in ("a/libmpi.so.40", "a/libmpi_cxx.so.40", "b/libm.so", "c/libmpich.so"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    path = ":".join(str(tmp_path / name) for name in ("c", "a", "", "b", "c", "no"))
    a, c = (str((tmp_path / n).resolve()) for n in ("a/libmpi.so.40", "c/libmpich.so"))
    assert environment.libraries_in(path) == [c, a]
    maps = f"7f-80 r-xp 0 08:01 5    {a}\n7f-80 r--p 0 08:01 5    {a}\n"
    maps += "7f-80 r-xp 0 08:01 6    /usr/lib/libm.so.6\n7f-80 rw-p 0 00:00 0 \n"
    assert environment.libraries_mapped(maps) == [a]


def test_a_rank_reports_itself():
    own = collect(Serial())
    assert own.cores == sorted(os.sched_getaffinity(0))
    assert own.versions["python"] == sys.version.split()[0]
    assert own.pid == os.getpid()
    assert RankInfo.from_plain({**own.plain(), "of_a_later_version": 1}) == own


def test_the_digest_of_a_source_is_of_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = source_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("1")
    assert source_digest(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert source_digest(tmp_path) != first
