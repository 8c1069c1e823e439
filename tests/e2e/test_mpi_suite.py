"""The tests in ``tests/mpi`` on several numbers of ranks, and what ends them."""

import shutil

import pytest

from tests.support import ROOT, TESTS
from tests.support.processes import mpiexec

pytestmark = pytest.mark.slow


def pytest_on(ranks, folder, cwd):
    words = ["-m", "pytest", "--with-mpi", "-q", "-p", "no:cacheprovider", str(folder)]
    return mpiexec.run(ranks, words, timeout=150, cwd=cwd)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_suite_passes(ranks):
    """On 3 ranks the groups ``mpi`` and ``openmpi`` of ``launch/test`` run it."""
    ended = pytest_on(ranks, TESTS / "mpi", ROOT)
    assert ended.returncode == 0, ended
    assert " passed" in ended.stdout
    assert ended.stdout.count(" passed") == 1, "only rank 0 reports"


def test_a_failure_on_one_rank_ends_the_suite(tmp_path):
    """The control: a test that fails on rank 1 alone, while others wait for it."""
    shutil.copy(TESTS / "mpi" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n"
        "pytestmark = pytest.mark.mpi\n\n\n"
        "def test_it(world):\n"
        "    assert world.rank != 1, 'one is ill'\n"
        "    world._comm.Barrier()\n"
    )
    ended = pytest_on(3, tmp_path, tmp_path)
    assert ended.returncode not in (0, None), ended
    assert "rank 1 of 3 failed test_it.py::test_it (call)" in ended.stderr
    assert "one is ill" in ended.stderr
    assert ended.left_behind == 0


def test_a_failure_is_read_by_a_launcher_that_wakes_late(tmp_path):
    """A busy machine may not run the launcher between a message and the abort."""
    shutil.copy(TESTS / "mpi" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(
        "import os, signal, subprocess, time\n"
        "import pytest\n\n"
        "pytestmark = pytest.mark.mpi\n\n\n"
        "def test_it(world):\n"
        "    if world.rank == 1:\n"
        "        launcher = os.getppid()\n"
        "        wake = ['sh', '-c', f'sleep 1; kill -CONT {launcher}']\n"
        "        closed = dict.fromkeys(['stdin', 'stdout', 'stderr'], -3)\n"
        "        subprocess.Popen(wake, start_new_session=True, **closed)\n"
        "        os.kill(launcher, signal.SIGSTOP)\n"
        "        time.sleep(0.3)\n"
        "        assert False, 'one is ill'\n"
        "    world._comm.Barrier()\n"
    )
    ended = pytest_on(3, tmp_path, tmp_path)
    assert ended.returncode not in (0, None), ended
    assert "one is ill" in ended.stderr, ended
    assert ended.left_behind == 0
