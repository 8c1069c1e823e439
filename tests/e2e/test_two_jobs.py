"""Two jobs on one run directory at once: one trains, the other is refused."""

import json
import os
import signal
import time

import pytest

from tests.support import PROCESSES
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    TIMEOUT,
    assert_same_run,
    digest_of,
    experiment,
    fedapm,
    train,
    user_path,
    write_config,
)
from tests.support.processes.mpiexec import Job

pytestmark = pytest.mark.slow

REPETITIONS = 2
ROUNDS = 60


@pytest.fixture(scope="module")
def pairs(toy, tmp_path_factory):
    """Return a configuration, a folder with its run, and how pairs of jobs ended."""
    root = tmp_path_factory.mktemp("two")
    config = experiment(toy["features"], rounds=ROUNDS, checkpoint={"every": 10})
    path = write_config(root / "config.yaml", config)
    words = [PROCESSES / "two_jobs.py", path, root, REPETITIONS, 10]
    ended = mpiexec.run(None, [*map(str, words)], timeout=TIMEOUT, env=user_path())
    assert ended.returncode == 0, ended
    return path, root, json.loads(ended.stdout)


@pytest.mark.parametrize("kind", ["new", "resume"])
def test_exactly_one_trains(pairs, kind):
    _, root, ended = pairs
    found = ended[kind]
    assert found["faults"] == {}
    assert found["pairs"] == REPETITIONS
    assert found["digests"] == [digest_of(root / "whole")]


def test_a_killed_job_gives_way_at_once(pairs, tmp_path):
    """On ranks; the second job is refused on all of them, and starts when it may."""
    config, root, _ = pairs
    run = tmp_path / "run"
    words = fedapm("train", config, "--run-dir", run, "--resume")
    with Job(2, words, env=user_path()) as job:
        end = time.monotonic() + TIMEOUT
        while not list(run.glob("checkpoints/round-*")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(job.rank(0), signal.SIGSTOP)
        refused = train(2, config, "--run-dir", run, "--resume")
        assert refused.returncode == 2, refused
        assert refused.stderr.count("is being trained by process") == 1
        os.kill(job.rank(0), signal.SIGKILL)
        job.wait(TIMEOUT)
    assert (run / "fedapm.lock").exists()
    ended = train(2, config, "--run-dir", run, "--resume")
    assert ended.returncode == 0, ended
    assert "continuing after round" in ended.stdout
    assert_same_run(run, root / "whole")
