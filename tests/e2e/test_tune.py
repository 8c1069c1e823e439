"""``fedapm tune`` on ranks: the same trials and choice, stopped or not."""

import signal
import time

import pytest

from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import TIMEOUT, fedapm, user_path, write_config
from tests.support.tuning import values_of, write_data

pytestmark = pytest.mark.slow

STOPPED = 75


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tuning")
    write_config(root / "c.yaml", values_of(write_data(root), rounds=4))
    return root


def words(out, *more):
    small = ("--trials", 4, "--width", 4, "--rungs", "1/2,1", "--repeats", 1)
    return fedapm("tune", "c.yaml", *small, "--out", out, *more)


def tuned(folder, out, *more):
    ended = mpiexec.run(
        None, words(out, *more), timeout=2 * TIMEOUT, env=user_path(), cwd=folder
    )
    assert ended.returncode == 0, ended
    return folder / out


def same(one, other):
    for name in ("trials.csv", "best.yaml"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_ranks_change_nothing_and_a_signal_only_delays(folder):
    alone = tuned(folder, "alone")
    command = words("ranks", "-n", 3)
    with mpiexec.Job(None, command, env=user_path(), cwd=folder) as job:
        runs = folder / "ranks" / "trials"
        wait_until(lambda: len(list(runs.glob("*/rounds.jsonl"))) >= 2, job.process)
        job.signal(signal.SIGTERM)
        ended = job.wait(TIMEOUT)
    assert ended.returncode == STOPPED, ended
    assert "the same command continues it" in ended.stdout
    assert ended.left_behind == 0
    same(tuned(folder, "ranks", "-n", 3), alone)


def wait_until(condition, process):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
